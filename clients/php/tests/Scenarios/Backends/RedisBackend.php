<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Backends;

/**
 * A redis-server of its own, on a unix socket.
 */
final class RedisBackend implements Backend
{
    private const PATIENCE = 30.0;

    private readonly string $directory;
    /** @var resource|null */
    private $process = null;

    /** @param int $port where it listens beside its unix socket; 0: nowhere */
    public function __construct(private readonly bool $hasStore = false, private readonly int $port = 0)
    {
        $this->directory = sys_get_temp_dir() . '/elock-redis-' . bin2hex(random_bytes(6));
        mkdir($this->directory);
        $this->run();
    }

    public function __destruct()
    {
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
        return "unix://$this->directory/socket";
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
        if ($this->process === null) {
            return;
        }
        proc_terminate($this->process, SIGKILL);
        while (proc_get_status($this->process)['running']) {
            usleep(2000);
        }
        proc_close($this->process);
        $this->process = null;
    }

    public function run(): void
    {
        @unlink("$this->directory/socket");
        $command = [(string)self::program(), '--port', (string)$this->port, '--bind', '127.0.0.1'];
        array_push($command, '--unixsocket', "$this->directory/socket", '--dir', $this->directory, '--save', '');
        array_push($command, '--appendonly', $this->hasStore ? 'yes' : 'no', '--appendfsync', 'always');
        $outputs = [['file', '/dev/null', 'r'], ['file', '/dev/null', 'a'], ['file', '/dev/null', 'a']];
        $process = proc_open($command, $outputs, $pipes);
        if ($process === false) {
            throw new \RuntimeException('redis-server cannot be started');
        }
        $this->process = $process;
        $ends = hrtime(true) + self::PATIENCE * 1e9;
        while (!$this->answers()) {
            if (!proc_get_status($process)['running'] || hrtime(true) > $ends) {
                throw new \RuntimeException('redis-server did not start');
            }
            usleep(2000);
        }
    }

    public function signal(int $signal): void
    {
        if ($this->process === null) {
            return;
        }
        proc_terminate($this->process, $signal);
        while ($signal === SIGSTOP && !proc_get_status($this->process)['stopped']) {
            usleep(1000);
        }
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
