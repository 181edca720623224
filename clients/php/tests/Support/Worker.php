<?php

declare(strict_types=1);

namespace Elock\Tests\Support;

/**
 * Another PHP process, which is told a line and answers by a line. Its script reads standard input, and says nothing
 * but answers. Killed with this object.
 */
final class Worker
{
    private const PATIENCE = 30.0;

    /** @var resource|null */
    private $process;
    /** @var array<int, resource> */
    private array $pipes = [];
    private string $unread = '';
    /** Whose worker it is: a forked child that ends does not end it. */
    private readonly int $parent;

    /** @param list<string> $arguments */
    public function __construct(string $script, array $arguments = [], array $environment = [])
    {
        $this->parent = (int)getmypid();
        $command = [PHP_BINARY, '-d', 'display_errors=stderr', '-d', 'max_execution_time=0', $script, ...$arguments];
        $pipes = [['pipe', 'r'], ['pipe', 'w'], STDERR];
        $process = proc_open($command, $pipes, $this->pipes, null, $environment + getenv());
        if ($process === false) {
            throw new \RuntimeException("$script cannot be started");
        }
        $this->process = $process;
    }

    public function __destruct()
    {
        if ($this->parent === getmypid()) {
            $this->kill();
        }
    }

    public function pid(): int
    {
        return $this->process === null ? 0 : proc_get_status($this->process)['pid'];
    }

    public function tell(string $line): void
    {
        fwrite($this->pipes[0], "$line\n");
    }

    /** The next line that it says; null when it has ended. */
    public function hear(float $patience = self::PATIENCE): ?string
    {
        $ends = hrtime(true) + $patience * 1e9;
        while (($end = strpos($this->unread, "\n")) === false) {
            $read = [$this->pipes[1]];
            $none = [];
            $left = (int)max(0, ($ends - hrtime(true)) / 1000);
            if ($left === 0) {
                throw new \RuntimeException("a worker says nothing; so far: $this->unread");
            }
            if (!@stream_select($read, $none, $none, 0, min($left, 250_000))) {
                continue;
            }
            $bytes = fread($this->pipes[1], 65536);
            if ($bytes === '' || $bytes === false) {
                return null;
            }
            $this->unread .= $bytes;
        }
        $line = substr($this->unread, 0, $end);
        $this->unread = substr($this->unread, $end + 1);
        return $line;
    }

    public function ask(string $line): ?string
    {
        $this->tell($line);
        return $this->hear();
    }

    public function signal(int $signal): void
    {
        if ($this->process !== null) {
            proc_terminate($this->process, $signal);
        }
    }

    /** The end of its input; comes back when it has ended. */
    public function finish(): int
    {
        fclose($this->pipes[0]);
        while ($this->hear() !== null) {
        }
        return $this->wait();
    }

    public function kill(): void
    {
        if ($this->process !== null) {
            proc_terminate($this->process, SIGKILL);
            $this->wait();
        }
    }

    private function wait(): int
    {
        if ($this->process === null) {
            return -1;
        }
        do {
            $status = proc_get_status($this->process);
            $status['running'] && usleep(1000);
        } while ($status['running']);
        proc_close($this->process);
        $this->process = null;
        return $status['exitcode'];
    }
}
