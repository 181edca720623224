<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Drivers;

use Elock\Exception\DeadlockException;
use Elock\Tests\Scenarios\DriverLock;
use Elock\Tests\Scenarios\NotOffered;
use Elock\Tests\Scenarios\Outcome;
use Symfony\Component\Lock\Exception\LockConflictedException;
use Symfony\Component\Lock\Exception\LockExpiredException;
use Symfony\Component\Lock\Key;
use Symfony\Component\Lock\Lock;

final class SymfonyLock implements DriverLock
{
    public function __construct(private readonly Lock $lock, private readonly Key $key)
    {
    }

    public function take(): string
    {
        return $this->lock->acquire() ? Outcome::TAKEN : Outcome::REFUSED;
    }

    public function block(float $seconds): string
    {
        if ($seconds > 0.0) {
            throw new NotOffered('a limit to the wait');
        }
        try {
            return $this->lock->acquire(true) ? Outcome::TAKEN : Outcome::REFUSED;
        } catch (LockConflictedException $problem) {
            return $problem->getPrevious() instanceof DeadlockException ? Outcome::DEADLOCK : Outcome::GAVE_UP;
        }
    }

    public function takeShared(): string
    {
        return $this->lock->acquireRead() ? Outcome::TAKEN : Outcome::REFUSED;
    }

    public function refresh(float $seconds): string
    {
        try {
            $this->lock->refresh($seconds);
            return Outcome::REFRESHED;
        } catch (LockConflictedException | LockExpiredException) {
            return Outcome::LOST;
        }
    }

    public function release(): ?string
    {
        $this->lock->release();
        return null;
    }

    public function forceRelease(): ?string
    {
        throw new NotOffered('to release it in disregard of who has it');
    }

    public function isMine(): string
    {
        return $this->lock->isAcquired() ? Outcome::MINE : Outcome::NOT_MINE;
    }

    public function isLocked(): ?string
    {
        return null;
    }

    public function owner(): string
    {
        return serialize($this->key);
    }
}
