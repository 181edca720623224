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
    /** Answers of a server that does not stand still come well within, in seconds. */
    private const TIMEOUT = 20.0;

    /** @var array<string, string> what was seen, by the step, where another thing was expected */
    public array $deviations = [];
    public readonly string $directory;
    private readonly Backend $backend;
    /** @var list<Process> */
    private array $processes = [];
    private ?Process $reader = null;

    /**
     * @param string|null $fault one of {@see Faults\Fault}
     * @param float $patience how long to wait for what surely comes, in seconds
     */
    public function __construct(
        public readonly string $driver,
        private readonly ?string $fault = null,
        private readonly float $patience = 30.0,
        bool $hasStore = false,
        private readonly float $timeout = self::TIMEOUT,
    ) {
        $this->backend = Drivers::isOnRedis($driver) ? new RedisBackend($hasStore) : new ElockBackend($hasStore);
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
        return $this->processes[] = new Process([
            'driver' => $this->driver,
            'address' => $this->backend->address(),
            'timeout' => $this->timeout,
            'fault' => $this->fault,
        ], $this->patience);
    }

    /** @return list<Process> */
    public function processes(int $count): array
    {
        return array_map(fn (): Process => $this->process(), range(1, $count));
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
        return Drivers::isSymfony($this->driver) ? $inSymfony : $elsewhere;
    }

    /** A wait that is long enough, in the framework's way. */
    public function longWait(): float
    {
        return Drivers::isSymfony($this->driver) ? 0.0 : 60.0;
    }

    /** Comes back when all of these wait, and notes if one does not. They are all that wait. */
    public function allWait(RemoteLock ...$locks): void
    {
        $ends = $this->end();
        while (true) {
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
                $this->see('they wait', (string)count($locks), (string)$waiters);
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

    private function end(): int
    {
        return hrtime(true) + (int)($this->patience * 1e9);
    }
}
