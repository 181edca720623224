<?php

declare(strict_types=1);

namespace Elock\Tests\Support;

/**
 * A server that a test has started. Ends with this object, but not with that of a forked child.
 */
final class Program
{
    private const PATIENCE = 30.0;

    /** @var resource|null */
    private $process;
    private readonly int $pid;

    /**
     * Comes back when it is ready.
     *
     * @param list<string> $command
     * @param string $log the file that gets its output
     * @param \Closure(): bool $isReady
     */
    public function __construct(array $command, string $log, \Closure $isReady)
    {
        $this->pid = (int)getmypid();
        $output = ['file', $log, 'a'];
        $process = proc_open($command, [['file', '/dev/null', 'r'], $output, $output], $pipes);
        if ($process === false) {
            throw new \RuntimeException("$command[0] cannot be started");
        }
        $this->process = $process;
        $ends = hrtime(true) + self::PATIENCE * 1e9;
        while (!$isReady()) {
            if (!proc_get_status($process)['running'] || hrtime(true) > $ends) {
                throw new \RuntimeException("$command[0] did not start: " . file_get_contents($log));
            }
            usleep(2000);
        }
    }

    public function __destruct()
    {
        $this->pid === getmypid() && $this->end(SIGKILL);
    }

    /** After SIGSTOP, it stands still until SIGCONT: comes back when it does. */
    public function signal(int $signal): void
    {
        if ($this->process === null) {
            return;
        }
        proc_terminate($this->process, $signal);
        // This is told once.
        while ($signal === SIGSTOP && !proc_get_status($this->process)['stopped']) {
            usleep(1000);
        }
    }

    /** Comes back when it has ended. */
    public function end(int $signal): void
    {
        if ($this->process === null) {
            return;
        }
        proc_terminate($this->process, $signal);
        while (proc_get_status($this->process)['running']) {
            usleep(2000);
        }
        proc_close($this->process);
        $this->process = null;
    }
}
