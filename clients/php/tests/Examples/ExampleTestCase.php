<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

use Elock\Client;
use Elock\Exception\TimeoutException;
use Elock\Options;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Worker;
use PHPUnit\Framework\AssertionFailedError;
use PHPUnit\Framework\TestCase;

/**
 * Runs examples as they are, each in a process of its own. What it checks of one must fail where the lock is taken out:
 * with a server that grants all, or in a copy that lacks a line.
 */
abstract class ExampleTestCase extends TestCase
{
    private const PATIENCE = 30.0;

    protected Server $server;
    protected Client $client;
    /** For an example's files. */
    protected string $directory;
    private string $address;
    private ?Worker $grantsAll = null;
    /** @var array<string, string> */
    private array $variants = [];

    protected function setUp(): void
    {
        $this->server = Server::start('--grace-ms', '100');
        $this->address = $this->server->tcp();
        $this->client = Client::connect($this->address);
        $this->directory = sys_get_temp_dir() . '/elock-examples-' . bin2hex(random_bytes(6));
        mkdir($this->directory);
    }

    protected function tearDown(): void
    {
        $this->grantsAll?->kill();
        array_map(unlink(...), glob("$this->directory/*") ?: []);
        rmdir($this->directory);
    }

    /** @param string $example the name of its file, without `.php` */
    protected function start(string $example, string ...$arguments): Run
    {
        $script = $this->variants[$example] ?? self::path($example);
        return new Run($script, array_values($arguments), ['ELOCK_SERVER' => $this->address] + $this->environment());
    }

    /** @return array<string, string> */
    protected function environment(): array
    {
        return [];
    }

    protected static function path(string $example): string
    {
        return dirname(__DIR__, 2) . "/examples/$example.php";
    }

    protected function file(string $name): string
    {
        return "$this->directory/$name";
    }

    /** From now on, everyone is granted everything. */
    protected function grantAll(): void
    {
        $this->grantsAll = new Worker(__DIR__ . '/scripts/grants_all.php');
        $this->address = "tcp://127.0.0.1:{$this->grantsAll->hear()}";
        $this->client = Client::connect($this->address);
    }

    /** From now on, a copy of the example runs that differs from it so. */
    protected function vary(string $example, string $lines, string $replacement): void
    {
        $code = (string)file_get_contents($this->variants[$example] ?? self::path($example));
        self::assertSame(1, substr_count($code, $lines), "$example.php has not got: $lines");
        $code = str_replace($lines, $replacement, $code);
        $autoload = var_export(dirname(__DIR__, 2) . '/autoload.php', true);
        $code = str_replace("__DIR__ . '/../autoload.php'", $autoload, $code);
        $this->variants[$example] = $this->file("$example.variant.php");
        file_put_contents($this->variants[$example], $code);
    }

    /** That this check would have noticed. */
    protected function assertNotices(\Closure $check): void
    {
        try {
            $check();
        } catch (AssertionFailedError $noticed) {
            self::assertNotSame('', $noticed->getMessage());
            return;
        }
        self::fail('nothing was noticed');
    }

    /** Waits for a state, which others bring about. */
    protected function await(string $what, \Closure $isSo): void
    {
        for ($ends = hrtime(true) + self::PATIENCE * 1e9; !$isSo(); usleep(2000)) {
            if (hrtime(true) > $ends) {
                self::fail("never came: $what");
            }
        }
    }

    /** The locks of connections are gone when this comes back: the server keeps nothing over a restart. */
    protected function loseLocks(): void
    {
        $this->server->kill();
        $this->server->run();
    }

    /** The server stands still when this comes back, until SIGCONT. */
    protected function haltServer(): void
    {
        $this->server->signal(SIGSTOP);
        $this->await('a server that stands still', function (): bool {
            try {
                (new Client($this->server->tcp(), new Options(timeout: 0.1)))->stats();
                return false;
            } catch (TimeoutException) {
                return true;
            }
        });
    }

    /** How many requests wait for the key, for the server. */
    protected function waiting(string $key): int
    {
        foreach ($this->client->locks($key) as $lock) {
            return (int)$lock['waiting_in_all'];
        }
        return 0;
    }

    /** That so many wait for the key, and this run, which is one of them, has not gone on. */
    protected function awaitWaiting(string $key, Run $run, int $count = 1): void
    {
        $this->await("waiting for $key", fn (): bool => $this->waiting($key) >= $count || $run->said() !== []);
        self::assertSame([], $run->said());
    }

    protected function awaitSaid(Run $run, string $line): void
    {
        $this->await($line, static fn (): bool => in_array($line, $run->said(), true));
    }
}
