<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Drivers;

use Elock\Client;
use Elock\Exception\DeadlockException;
use Elock\Exception\LostException;
use Elock\Exception\RefusedException;
use Elock\Owner;
use Elock\Tests\Scenarios\DriverLock;
use Elock\Tests\Scenarios\Outcome;

final class PlainLock implements DriverLock
{
    private readonly Owner $holder;

    public function __construct(
        private readonly Client $client,
        private readonly string $name,
        private readonly float $seconds,
        private readonly string $owner,
    ) {
        $this->holder = $client->owner($owner);
    }

    public function take(): string
    {
        return $this->taken(fn () => $this->holder->lock($this->name, 0.0, $this->seconds), Outcome::REFUSED);
    }

    public function block(float $seconds): string
    {
        $wait = $seconds > 0.0 ? $seconds : 3600.0;
        return $this->taken(fn () => $this->holder->lock($this->name, $wait, $this->seconds), Outcome::GAVE_UP);
    }

    public function takeShared(): string
    {
        $take = fn () => $this->holder->lockValue($this->name, 'readers', 0.0, $this->seconds);
        return $this->taken($take, Outcome::REFUSED);
    }

    public function refresh(float $seconds): string
    {
        try {
            $this->holder->held($this->name)->expire($seconds);
            return Outcome::REFRESHED;
        } catch (LostException) {
            return Outcome::LOST;
        }
    }

    public function release(): string
    {
        return $this->holder->unlock($this->name) ? Outcome::RELEASED : Outcome::NOT_HELD;
    }

    public function forceRelease(): ?string
    {
        $this->client->break($this->name);
        return null;
    }

    public function isMine(): string
    {
        try {
            $this->holder->held($this->name);
            return Outcome::MINE;
        } catch (LostException) {
            return Outcome::NOT_MINE;
        }
    }

    public function isLocked(): string
    {
        return $this->client->holder($this->name) === null ? Outcome::FREE : Outcome::LOCKED;
    }

    public function owner(): string
    {
        return $this->owner;
    }

    private function taken(\Closure $take, string $otherwise): string
    {
        try {
            $take();
            return Outcome::TAKEN;
        } catch (DeadlockException) {
            return $otherwise === Outcome::REFUSED ? Outcome::REFUSED : Outcome::DEADLOCK;
        } catch (RefusedException) {
            return $otherwise;
        }
    }
}
