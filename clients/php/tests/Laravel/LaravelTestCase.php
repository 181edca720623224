<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Elock\Client;
use Elock\Exception\TimeoutException;
use Elock\Laravel\ElockLockProvider;
use Elock\Options;
use Elock\Tests\Support\Server;
use Illuminate\Contracts\Cache\LockProvider;
use PHPUnit\Framework\TestCase;

/**
 * A server for each test, and an observer of it.
 */
abstract class LaravelTestCase extends TestCase
{
    private const PATIENCE = 30.0;

    protected static Server $server;
    private static ?Client $observer = null;

    public static function setUpBeforeClass(): void
    {
        if (!interface_exists(LockProvider::class)) {
            self::markTestSkipped('Laravel is not installed');
        }
    }

    protected function setUp(): void
    {
        self::$server = Server::start();
        self::$observer = null;
    }

    /** As one process has it. */
    protected static function provider(string $prefix = '', ?Options $options = null): ElockLockProvider
    {
        return new ElockLockProvider(new Client(self::$server->tcp(), $options), $prefix);
    }

    protected static function observer(): Client
    {
        return self::$observer ??= new Client(self::$server->unix(), new Options(name: 'observer'));
    }

    /**
     * What the server has of that key; null: nothing.
     *
     * @return array<string, mixed>|null
     */
    protected static function seen(string $key): ?array
    {
        foreach (self::observer()->locks($key) as $lock) {
            if ($lock['key'] === $key) {
                return $lock;
            }
        }
        return null;
    }

    /** What is left of the holder's lease, in seconds; null: it has none. */
    protected static function leaseOf(string $key): ?float
    {
        $left = self::seen($key)['holders'][0]['lease_left_ms'] ?? null;
        return $left === null ? null : $left / 1000;
    }

    protected static function untilWaiting(string $key, int $waiters = 1): void
    {
        self::until(static fn (): bool => (self::seen($key)['waiting_in_all'] ?? 0) === $waiters);
    }

    protected static function untilFree(string $key): void
    {
        self::until(static fn (): bool => self::seen($key) === null);
    }

    protected static function untilSilent(Server $server): void
    {
        self::until(static function () use ($server): bool {
            try {
                (new Client($server->tcp(), new Options(timeout: 0.1)))->stats();
                return false;
            } catch (TimeoutException) {
                return true;
            }
        });
    }

    /** @param \Closure(): bool $state */
    protected static function until(\Closure $state): void
    {
        $ends = hrtime(true) + self::PATIENCE * 1e9;
        while (!$state()) {
            if (hrtime(true) > $ends) {
                throw new \RuntimeException("it does not come to that:\n" . implode("\n", self::observer()->debug()));
            }
            usleep(2000);
        }
    }

    /**
     * @template T of \Throwable
     * @param class-string<T> $class
     * @return T
     */
    protected static function thrown(string $class, \Closure $by): \Throwable
    {
        try {
            $result = $by();
        } catch (\Throwable $thrown) {
            self::assertInstanceOf($class, $thrown, $thrown->getMessage());
            return $thrown;
        }
        self::fail("no $class, but " . var_export($result, true));
    }
}
