<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

/**
 * A Redis of a test's own, at a unix socket. Ends with this object.
 */
final class RedisServer
{
    private const PATIENCE = 30.0;

    public readonly string $socket;
    /** @var resource */
    private $process;

    private function __construct(string $program)
    {
        $this->socket = sys_get_temp_dir() . '/elock-redis-' . bin2hex(random_bytes(6));
        $command = [$program, '--port', '0', '--unixsocket', $this->socket, '--save', '', '--appendonly', 'no'];
        $nowhere = ['file', '/dev/null', 'r+'];
        $pipes = [];
        $process = proc_open([...$command, '--dir', sys_get_temp_dir()], [$nowhere, $nowhere, $nowhere], $pipes);
        if ($process === false) {
            throw new \RuntimeException('redis-server cannot be started');
        }
        $this->process = $process;
        $ends = hrtime(true) + self::PATIENCE * 1e9;
        while (!$stream = @stream_socket_client("unix://$this->socket")) {
            if (hrtime(true) > $ends) {
                throw new \RuntimeException('redis-server did not start');
            }
            usleep(2000);
        }
        fclose($stream);
    }

    /** Null if it is not installed. */
    public static function start(): ?self
    {
        foreach (explode(':', (string)getenv('PATH')) as $directory) {
            if (is_executable("$directory/redis-server")) {
                return new self("$directory/redis-server");
            }
        }
        return null;
    }

    public function __destruct()
    {
        proc_terminate($this->process, SIGKILL);
        proc_close($this->process);
        @unlink($this->socket);
    }
}
