<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Backends;

use Elock\Tests\Support\Program;

/**
 * A redis-server of its own, on a unix socket.
 */
final class RedisBackend implements Backend
{
    private readonly string $directory;
    private ?Program $running = null;
    /** Whose server it is: a forked child that ends does not end it. */
    private readonly int $pid;

    /** @param int $port where it listens beside its unix socket; 0: nowhere */
    public function __construct(private readonly bool $hasStore = false, private readonly int $port = 0)
    {
        $this->pid = (int)getmypid();
        $this->directory = sys_get_temp_dir() . '/elock-redis-' . bin2hex(random_bytes(6));
        mkdir($this->directory);
        $this->run();
    }

    public function __destruct()
    {
        if ($this->pid !== getmypid()) {
            return;
        }
        $this->kill();
        exec('rm -r ' . escapeshellarg($this->directory));
    }

    public static function isInstalled(): bool
    {
        return self::program() !== null;
    }

    public function address(): string
    {
        return $this->unix();
    }

    public function tcp(): string
    {
        return "tcp://127.0.0.1:$this->port";
    }

    public function unix(): string
    {
        return "unix://{$this->socket()}";
    }

    public function socket(): string
    {
        return "$this->directory/socket";
    }

    public function waiters(): ?int
    {
        return null;
    }

    public function restart(): void
    {
        $this->kill();
        $this->run();
    }

    public function kill(): void
    {
        $this->running?->end(SIGKILL);
    }

    public function run(): void
    {
        @unlink($this->socket());
        $command = [(string)self::program(), '--port', (string)$this->port, '--bind', '127.0.0.1'];
        array_push($command, '--unixsocket', "$this->directory/socket", '--dir', $this->directory, '--save', '');
        array_push($command, '--appendonly', $this->hasStore ? 'yes' : 'no', '--appendfsync', 'always');
        $this->running = new Program($command, "$this->directory/log", $this->answers(...));
    }

    public function signal(int $signal): void
    {
        $this->running?->signal($signal);
    }

    private function answers(): bool
    {
        $socket = @stream_socket_client($this->address());
        if ($socket === false) {
            return false;
        }
        fwrite($socket, "PING\r\n");
        return fgets($socket) === "+PONG\r\n";
    }

    private static function program(): ?string
    {
        foreach (explode(':', (string)getenv('PATH')) as $directory) {
            if (is_executable("$directory/redis-server")) {
                return "$directory/redis-server";
            }
        }
        return null;
    }
}
