<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Drivers;

use Elock\Exception\DeadlockException;
use Elock\Tests\Scenarios\DriverLock;
use Elock\Tests\Scenarios\NotOffered;
use Elock\Tests\Scenarios\Outcome;
use Illuminate\Contracts\Cache\Lock;
use Illuminate\Contracts\Cache\LockTimeoutException;

final class LaravelLock implements DriverLock
{
    public function __construct(private readonly Lock $lock)
    {
    }

    public function take(): string
    {
        return $this->lock->get() ? Outcome::TAKEN : Outcome::REFUSED;
    }

    public function block(float $seconds): string
    {
        try {
            $wait = (int)ceil($seconds > 0.0 ? $seconds : 3600.0);
            return $this->lock->block($wait) ? Outcome::TAKEN : Outcome::REFUSED;
        } catch (LockTimeoutException $problem) {
            return $problem->getPrevious() instanceof DeadlockException ? Outcome::DEADLOCK : Outcome::GAVE_UP;
        }
    }

    public function takeShared(): string
    {
        throw new NotOffered('shared locks');
    }

    public function refresh(float $seconds): string
    {
        return $this->call('refresh', (int)ceil($seconds)) ? Outcome::REFRESHED : Outcome::LOST;
    }

    public function release(): string
    {
        return $this->lock->release() ? Outcome::RELEASED : Outcome::NOT_HELD;
    }

    public function forceRelease(): ?string
    {
        $this->lock->forceRelease();
        return null;
    }

    public function isMine(): string
    {
        // It is protected in the older versions.
        $isMine = (fn (): bool => $this->isOwnedByCurrentProcess())->call($this->lock);
        return $isMine ? Outcome::MINE : Outcome::NOT_MINE;
    }

    public function isLocked(): ?string
    {
        if (!method_exists($this->lock, 'isLocked')) {
            return null;
        }
        return $this->lock->isLocked() ? Outcome::LOCKED : Outcome::FREE;
    }

    public function owner(): string
    {
        return $this->lock->owner();
    }

    private function call(string $method, mixed ...$arguments): mixed
    {
        if (!method_exists($this->lock, $method)) {
            throw new NotOffered("$method()");
        }
        return $this->lock->$method(...$arguments);
    }
}
