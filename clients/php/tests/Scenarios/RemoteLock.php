<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

/**
 * A lock of a scenario's process: each method is {@see DriverLock}'s, over there.
 */
final class RemoteLock
{
    private mixed $early = null;
    private bool $isEarly = false;

    public function __construct(public readonly Process $process, public readonly string $id)
    {
    }

    public function take(): ?string
    {
        return $this->on('take');
    }

    public function takeShared(): ?string
    {
        return $this->on('takeShared');
    }

    public function block(float $seconds): ?string
    {
        return $this->on('block', $seconds);
    }

    /** Begins to wait, and comes back; {@see outcome()} gives what came of it. */
    public function startBlock(float $seconds): void
    {
        $this->process->tell('on', $this->id, 'block', $seconds);
    }

    public function outcome(): mixed
    {
        if ($this->isEarly) {
            $this->isEarly = false;
            return $this->early;
        }
        return $this->process->hear();
    }

    /** Whether the block has come back already. */
    public function isBack(): bool
    {
        if (!$this->isEarly) {
            try {
                $this->early = $this->process->hear(0.01);
                $this->isEarly = true;
            } catch (NotOffered $problem) {
                throw $problem;
            } catch (\RuntimeException) {
                return false;
            }
        }
        return true;
    }

    public function refresh(float $seconds): ?string
    {
        return $this->on('refresh', $seconds);
    }

    public function release(): ?string
    {
        return $this->on('release');
    }

    public function forceRelease(): ?string
    {
        return $this->on('forceRelease');
    }

    public function isMine(): ?string
    {
        return $this->on('isMine');
    }

    public function isLocked(): ?string
    {
        return $this->on('isLocked');
    }

    public function owner(): string
    {
        return $this->on('owner') ?? '';
    }

    /** As at the end of the function that has it in a variable. */
    public function drop(): void
    {
        $this->process->ask('drop', $this->id);
    }

    private function on(string $method, mixed ...$arguments): ?string
    {
        return $this->process->ask('on', $this->id, $method, ...$arguments);
    }
}
