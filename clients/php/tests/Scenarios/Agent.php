<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

/**
 * The inside of a scenario's process.
 */
final class Agent
{
    /** @var array<string, DriverLock> */
    private array $locks = [];

    public function __construct(private readonly Driver $driver)
    {
    }

    /** Until the end of its input. */
    public function run(): void
    {
        while (($line = fgets(STDIN)) !== false) {
            $order = Message::read(rtrim($line, "\n"));
            fwrite(STDOUT, Message::line($this->obey(...$order)) . "\n");
        }
    }

    /**
     * What came of it, and in which words.
     *
     * @return array{mixed, string}
     */
    private function obey(string $what, mixed ...$arguments): array
    {
        try {
            return [$this->$what(...$arguments), ''];
        } catch (NotOffered $problem) {
            return [NotOffered::class, $problem->getMessage()];
        } catch (\Throwable $problem) {
            $messages = [];
            for ($cause = $problem; $cause !== null; $cause = $cause->getPrevious()) {
                $messages[] = $cause::class . ': ' . $cause->getMessage();
            }
            return [Outcome::FAILED, implode('; by ', $messages)];
        }
    }

    private function make(string $id, string $name, float $seconds, ?string $owner, bool $keep): void
    {
        $this->locks[$id] = $this->driver->lock($name, $seconds, $owner, $keep);
    }

    /** Forgets the object, as at the end of a function. */
    private function drop(string $id): void
    {
        unset($this->locks[$id]);
    }

    private function on(string $id, string $method, mixed ...$arguments): ?string
    {
        return $this->locks[$id]->$method(...$arguments);
    }

    /** Ends by a fatal error: no destructor runs. */
    private function fatal(): void
    {
        fclose(STDERR);
        ini_set('display_errors', '0');
        ini_set('log_errors', '0');
        ini_set('memory_limit', (string)(memory_get_usage(true) + 4 * 1024 * 1024));
        $all = '';
        while (true) {
            $all .= str_repeat('x', 1024 * 1024);
        }
    }

    private function exits(): void
    {
        exit(0);
    }

    /**
     * Does that in a forked child, which then ends: as processes do, or by SIGKILL.
     *
     * @param list<array{string, string}> $orders lock and method
     * @return list<string|null>
     */
    private function fork(array $orders, bool $isKilled): array
    {
        $pair = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        $pid = pcntl_fork();
        if ($pid === 0) {
            $this->driver->forked();
            $outcomes = array_map(fn (array $order): mixed => $this->obey('on', ...$order)[0], $orders);
            fwrite($pair[1], Message::line($outcomes) . "\n");
            $isKilled && posix_kill(posix_getpid(), SIGKILL);
            exit(0);
        }
        fclose($pair[1]);
        $line = fgets($pair[0]);
        pcntl_waitpid($pid, $status);
        return $line === false ? [] : Message::read(rtrim($line, "\n"));
    }

    /**
     * Does that in so many forked children and in their parent, all at the same time, again and again.
     *
     * @param list<array{string, string}> $orders lock and method
     * @return list<string> what came of it, each only once: the outcomes in the order of the orders
     */
    private function crowd(int $children, int $rounds, array $orders): array
    {
        $files = [];
        $pids = [];
        for ($child = 0; $child < $children; $child++) {
            $files[] = $file = tmpfile();
            $pids[] = $pid = pcntl_fork();
            if ($pid === 0) {
                $this->driver->forked();
                fwrite($file, Message::line($this->seen($rounds, $orders)));
                fflush($file);
                posix_kill(posix_getpid(), SIGKILL);
            }
        }
        $seen = $this->seen($rounds, $orders);
        foreach ($pids as $child => $pid) {
            pcntl_waitpid($pid, $status);
            rewind($files[$child]);
            $line = (string)stream_get_contents($files[$child]);
            $seen = [...$seen, ...($line === '' ? [Outcome::ENDED] : Message::read($line))];
        }
        return array_values(array_unique($seen));
    }

    /**
     * @param list<array{string, string}> $orders
     * @return list<string>
     */
    private function seen(int $rounds, array $orders): array
    {
        $seen = [];
        for ($round = 0; $round < $rounds; $round++) {
            $outcomes = array_map(fn (array $order): mixed => $this->obey('on', ...$order)[0], $orders);
            $seen[implode(', ', $outcomes)] = true;
            if (in_array(Outcome::FAILED, $outcomes, true)) {
                break;
            }
        }
        return array_keys($seen);
    }

    /**
     * So often: waits for the lock, and is in a section where nobody else may be.
     *
     * @param float $wait in seconds, as for {@see DriverLock::block()}
     * @return array{int, int} how often it was in there, and how often another one was, too
     */
    private function work(string $id, int $rounds, float $wait, int $holdMs, string $door): array
    {
        [$in, $overlaps] = [0, 0];
        for ($round = 0; $round < $rounds; $round++) {
            if ($this->locks[$id]->block($wait) !== Outcome::TAKEN) {
                continue;
            }
            $in++;
            $overlaps += $this->inside($door, $holdMs);
            $this->locks[$id]->release();
        }
        return [$in, $overlaps];
    }

    /** Once, and leaves its mark. */
    private function enter(string $id, float $wait, string $door, string $file, string $mark): int
    {
        $this->locks[$id]->block($wait);
        file_put_contents($file, $mark, FILE_APPEND);
        $overlaps = $this->inside($door, 1);
        $this->locks[$id]->release();
        return $overlaps;
    }

    /** Whether another one is in there, too. */
    private function inside(string $door, int $holdMs): int
    {
        $isAlone = @mkdir($door);
        usleep($holdMs * 1000);
        $isAlone && rmdir($door);
        return $isAlone ? 0 : 1;
    }
}
