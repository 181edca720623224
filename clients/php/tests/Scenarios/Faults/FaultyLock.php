<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Faults;

use Elock\Tests\Scenarios\DriverLock;
use Elock\Tests\Scenarios\Outcome;

final class FaultyLock implements DriverLock
{
    private bool $wasTaken = false;

    public function __construct(private readonly DriverLock $lock, private readonly Fault $fault)
    {
    }

    public function __destruct()
    {
        if ($this->fault === Fault::EndsWithItsProcess && $this->wasTaken) {
            $this->lock->release();
        }
    }

    public function take(): ?string
    {
        if ($this->fault === Fault::Reentrant && $this->lock->isMine() === Outcome::MINE) {
            return Outcome::TAKEN;
        }
        return $this->noted($this->answer(Outcome::TAKEN, Outcome::REFUSED, $this->lock->take(...)));
    }

    public function block(float $seconds): ?string
    {
        $poll = function () use ($seconds): ?string {
            $ends = hrtime(true) + ($seconds > 0.0 ? $seconds : 3600.0) * 1e9;
            while (($outcome = $this->lock->take()) !== Outcome::TAKEN && hrtime(true) < $ends) {
                usleep(random_int(1000, 20_000));
            }
            return $outcome === Outcome::TAKEN ? $outcome : Outcome::GAVE_UP;
        };
        return $this->noted(match ($this->fault) {
            Fault::BlockComesBackAtOnce => Outcome::TAKEN,
            Fault::BlockDoesNotWait => $this->lock->take() === Outcome::TAKEN ? Outcome::TAKEN : Outcome::GAVE_UP,
            Fault::BlockPolls => $poll(),
            default => $this->answer(Outcome::TAKEN, Outcome::GAVE_UP, fn () => $this->lock->block($seconds)),
        });
    }

    public function takeShared(): ?string
    {
        return $this->answer(Outcome::TAKEN, Outcome::REFUSED, $this->lock->takeShared(...));
    }

    public function refresh(float $seconds): ?string
    {
        if ($this->fault === Fault::RefreshDoesNothing) {
            return $this->lock->isMine() === Outcome::MINE ? Outcome::REFRESHED : Outcome::LOST;
        }
        $outcome = $this->answer(Outcome::REFRESHED, Outcome::LOST, fn () => $this->lock->refresh($seconds));
        return $this->fault === Fault::RefreshIgnoresOwner ? Outcome::REFRESHED : $outcome;
    }

    public function release(): ?string
    {
        if ($this->fault === Fault::ReleaseIgnoresOwner) {
            return $this->lock->forceRelease() ?? Outcome::RELEASED;
        }
        $isOthers = $this->fault === Fault::BelongsToItsProcess && !$this->wasTaken;
        if ($this->fault === Fault::ReleaseDoesNothing || $isOthers) {
            return $this->lock->isMine() === Outcome::MINE && !$isOthers ? Outcome::RELEASED : Outcome::NOT_HELD;
        }
        return $this->answer(Outcome::RELEASED, Outcome::NOT_HELD, $this->lock->release(...));
    }

    public function forceRelease(): ?string
    {
        return $this->fault === Fault::NoLock ? null : $this->lock->forceRelease();
    }

    public function isMine(): ?string
    {
        if ($this->fault === Fault::Remembers && $this->wasTaken) {
            return Outcome::MINE;
        }
        return $this->answer(Outcome::MINE, Outcome::NOT_MINE, $this->lock->isMine(...));
    }

    public function isLocked(): ?string
    {
        return $this->answer(Outcome::FREE, Outcome::FREE, $this->lock->isLocked(...));
    }

    public function owner(): string
    {
        return $this->lock->owner();
    }

    private function noted(?string $outcome): ?string
    {
        $this->wasTaken = $this->wasTaken || $outcome === Outcome::TAKEN;
        return $outcome;
    }

    /** @param \Closure(): ?string $ask */
    private function answer(string $withoutLock, string $failed, \Closure $ask): ?string
    {
        if ($this->fault === Fault::NoLock) {
            return $withoutLock;
        }
        try {
            return $ask();
        } catch (\RuntimeException $problem) {
            return $this->fault === Fault::Pretends ? $failed : throw $problem;
        }
    }
}
