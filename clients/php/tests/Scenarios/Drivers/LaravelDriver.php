<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Drivers;

use Elock\Tests\Scenarios\Driver;
use Elock\Tests\Scenarios\DriverLock;
use Illuminate\Contracts\Cache\LockProvider;

/**
 * `Cache::lock()` and `Cache::restoreLock()`, whatever store is under them.
 */
final class LaravelDriver implements Driver
{
    /** @param \Closure(): void $afterFork what that store needs in a forked process */
    public function __construct(private readonly LockProvider $locks, private readonly \Closure $afterFork)
    {
    }

    public function lock(string $name, float $seconds, ?string $owner, bool $keep): DriverLock
    {
        return new LaravelLock($this->locks->lock($name, (int)ceil($seconds), $owner));
    }

    public function forked(): void
    {
        ($this->afterFork)();
    }
}
