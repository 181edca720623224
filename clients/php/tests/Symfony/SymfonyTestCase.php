<?php

declare(strict_types=1);

namespace Elock\Tests\Symfony;

use Elock\Client;
use Elock\Symfony\ElockStore;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Worker;
use PHPUnit\Framework\TestCase;
use Symfony\Component\Lock\PersistingStoreInterface;

abstract class SymfonyTestCase extends TestCase
{
    private const PATIENCE = 30.0;

    protected Server $server;

    protected function setUp(): void
    {
        if (!interface_exists(PersistingStoreInterface::class)) {
            self::markTestSkipped('symfony/lock is not installed');
        }
        $this->server = Server::start();
    }

    protected function store(float $initialTtl = 300.0, ?float $longestWait = null): ElockStore
    {
        return new ElockStore(new Client($this->server->tcp()), $initialTtl, $longestWait);
    }

    /** A process with stores of its own: see worker.php. */
    protected function worker(string ...$arguments): Worker
    {
        return new Worker(__DIR__ . '/worker.php', [$this->server->unix(), ...array_values($arguments)]);
    }

    /** Until so many requests wait for this key, and will for more than a moment. */
    protected function untilWaiting(string $key, int $requests, ?Server $server = null): void
    {
        $client = new Client(($server ?? $this->server)->unix());
        $this->until(static function () use ($client, $key, $requests): bool {
            foreach ($client->locks($key) as $lock) {
                if ($lock['key'] === $key) {
                    $left = array_column($lock['waiting'], 'left_ms');
                    return count(array_filter($left, static fn (int $ms): bool => $ms > 1000)) === $requests;
                }
            }
            return $requests === 0;
        });
    }

    protected function until(callable $isSo): void
    {
        $ends = hrtime(true) + self::PATIENCE * 1e9;
        while (!$isSo()) {
            if (hrtime(true) > $ends) {
                self::fail('it never came to be');
            }
            usleep(1000);
        }
    }

    /**
     * What it throws.
     *
     * @template T of \Throwable
     * @param class-string<T> $class
     * @return T
     */
    protected static function thrown(string $class, callable $what): \Throwable
    {
        try {
            $what();
        } catch (\Throwable $thrown) {
            self::assertInstanceOf($class, $thrown, (string)$thrown);
            return $thrown;
        }
        self::fail("no $class");
    }
}
