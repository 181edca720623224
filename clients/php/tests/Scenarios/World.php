<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

use Elock\Tests\Scenarios\Backends\Backend;
use Elock\Tests\Scenarios\Backends\ElockBackend;
use Elock\Tests\Scenarios\Backends\RedisBackend;
use Elock\Tests\Scenarios\Drivers\Drivers;

/**
 * What a scenario is played in: a server and processes of its own. It notes what is other than it should be, and goes
 * on.
 */
final class World
{
    private const NAP_US = 3000;
    private const WAITING = 'how many wait';

    /** @var array<string, string> what was seen, by the step, where another thing was expected */
    public array $deviations = [];
    public readonly string $directory;
    private readonly Backend $backend;
    /** @var list<Process> */
    private array $processes = [];
    private ?Process $reader = null;

    public function __construct(private readonly Job $job, private readonly Play $play)
    {
        $this->backend = Drivers::isOnRedis($job->driver)
            ? new RedisBackend($play->hasStore)
            : new ElockBackend($play->hasStore);
        $this->directory = sys_get_temp_dir() . '/elock-scenario-' . bin2hex(random_bytes(6));
        mkdir($this->directory);
    }

    public function __destruct()
    {
        $this->backend->signal(SIGCONT);
        foreach ($this->processes as $process) {
            $process->kill();
        }
        exec('rm -r ' . escapeshellarg($this->directory));
    }

    public function process(): Process
    {
        return $this->processes(1)[0];
    }

    /** @return list<Process> all at once: they take their time to begin */
    public function processes(int $count): array
    {
        $processes = array_map(fn (): Process => $this->begin(), range(1, $count));
        foreach ($processes as $process) {
            $process->hear();
        }
        return $processes;
    }

    /** Notes what is seen, unless it is as expected, or the framework does not tell. */
    public function see(string $step, string $expected, mixed $seen): void
    {
        if ($seen !== null && $seen !== $expected) {
            $this->deviations[$step] = is_string($seen) ? $seen : (string)json_encode($seen);
        }
    }

    /** By framework, where they mean different things by the same word. */
    public function either(string $inSymfony, string $elsewhere): string
    {
        return Drivers::isSymfony($this->job->driver) ? $inSymfony : $elsewhere;
    }

    /** A wait that is long enough, in the framework's way. */
    public function longWait(): float
    {
        return Drivers::isSymfony($this->job->driver) ? 0.0 : 60.0;
    }

    /** Comes back when all of these wait, and notes if one does not. They are all that wait. */
    public function allWait(RemoteLock ...$locks): void
    {
        $ends = $this->end();
        while (!isset($this->deviations[self::WAITING])) {
            foreach ($locks as $position => $lock) {
                if ($lock->isBack()) {
                    $this->see("waiter $position waits", 'yes', 'no');
                    return;
                }
            }
            $waiters = $this->backend->waiters();
            if ($waiters === null || $waiters === count($locks)) {
                return;
            }
            if (hrtime(true) > $ends) {
                $this->see(self::WAITING, (string)count($locks), (string)$waiters);
                return;
            }
            usleep(self::NAP_US);
        }
    }

    /** Tries until it has the lock. */
    public function untilTaken(RemoteLock $lock): ?string
    {
        return $this->until(Outcome::TAKEN, $lock->take(...));
    }

    /** Does this again and again, until the outcome is that. */
    public function until(string $wanted, \Closure $do): ?string
    {
        $ends = $this->end();
        while (($outcome = $do()) !== $wanted && hrtime(true) < $ends) {
            usleep(self::NAP_US);
        }
        return $outcome;
    }

    /** Comes back when a lease of a second, taken now, has ended. */
    public function aSecondPasses(): void
    {
        $this->reader ??= $this->process();
        $name = 'clock ' . bin2hex(random_bytes(4));
        $this->reader->lock($name, 1.0)->take();
        $this->untilTaken($this->reader->lock($name));
    }

    /** One of the server's bad moments. */
    public function server(): Backend
    {
        return $this->backend;
    }

    private function begin(): Process
    {
        return $this->processes[] = new Process([
            'driver' => $this->job->driver,
            'address' => $this->backend->address(),
            'timeout' => $this->play->timeout,
            'fault' => $this->job->fault,
        ]);
    }

    private function end(): int
    {
        return hrtime(true) + (int)($this->job->patience * 1e9);
    }
}
