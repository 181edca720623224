<?php

declare(strict_types=1);

namespace Elock\Tests\Support;

/**
 * An elockd of a test's own, at a port and a unix socket that nobody else has. Ends with this object.
 */
final class Server
{
    public readonly string $directory;
    private string $listen = '127.0.0.1:0';
    private ?Program $running = null;
    /** Whose server it is: a forked child that ends does not end it. */
    private readonly int $pid;

    /** @param list<string> $flags */
    private function __construct(private readonly array $flags, private readonly bool $hasStore)
    {
        $this->pid = (int)getmypid();
        $this->directory = sys_get_temp_dir() . '/elock-php-' . bin2hex(random_bytes(6));
        mkdir($this->directory);
        $this->run();
    }

    /** Without a store. */
    public static function start(string ...$flags): self
    {
        return new self(array_values($flags), false);
    }

    /** One that keeps its locks over a restart. */
    public static function startWithStore(string ...$flags): self
    {
        return new self(array_values($flags), true);
    }

    public function __destruct()
    {
        if ($this->pid !== getmypid()) {
            return;
        }
        $this->kill();
        foreach (glob("$this->directory/{,data/}*", GLOB_BRACE) ?: [] as $file) {
            is_file($file) && unlink($file);
        }
        @rmdir("$this->directory/data");
        @unlink("$this->directory/socket");
        @rmdir($this->directory);
    }

    public function tcp(): string
    {
        return "tcp://$this->listen";
    }

    /** Where it speaks TLS, if its flags say so. */
    public function tls(): string
    {
        preg_match('~ listening on .*(tls://127\.0\.0\.1:\d+)~', $this->log(), $found);
        return $found[1] ?? throw new \LogicException('it speaks no TLS');
    }

    public function unix(): string
    {
        return "unix://$this->directory/socket";
    }

    /** What an operator would do. Comes back when it has ended. */
    public function stop(): void
    {
        $this->running?->end(SIGTERM);
    }

    /** As a crash would. */
    public function kill(): void
    {
        $this->running?->end(SIGKILL);
    }

    public function signal(int $signal): void
    {
        $this->running?->signal($signal);
    }

    /** Stands still from now on. */
    public function pause(): void
    {
        $this->signal(SIGSTOP);
    }

    public function goOn(): void
    {
        $this->signal(SIGCONT);
    }

    /** At the same addresses, after a stop or a kill. Comes back when it answers. */
    public function run(): void
    {
        $log = "$this->directory/log";
        file_put_contents($log, '');
        $command = [self::program(), '--listen', $this->listen, '--listen', "unix:$this->directory/socket"];
        if ($this->hasStore) {
            array_push($command, '--data-dir', "$this->directory/data");
        }
        $found = [];
        $isReady = static function () use ($log, &$found): bool {
            return preg_match('/ listening on (127\.0\.0\.1:\d+)/', (string)file_get_contents($log), $found) === 1;
        };
        $this->running = new Program([...$command, ...$this->flags], $log, $isReady);
        $this->listen = $found[1];
    }

    public function log(): string
    {
        return (string)file_get_contents("$this->directory/log");
    }

    /** The one that `ELOCKD` names, or that cargo has built here. */
    public static function program(): string
    {
        $candidates = [getenv('ELOCKD'), ...array_map(
            static fn (string $kind): string => dirname(__DIR__, 4) . "/target/$kind/elockd",
            ['release', 'debug'],
        )];
        foreach ($candidates as $program) {
            if (is_string($program) && is_executable($program)) {
                return $program;
            }
        }
        throw new \RuntimeException('there is no elockd: name one in ELOCKD, or run "cargo build"');
    }
}
