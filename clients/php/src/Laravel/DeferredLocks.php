<?php

declare(strict_types=1);

namespace Elock\Laravel;

use Illuminate\Contracts\Cache\LockProvider;

/**
 * Locks whose settings are looked at when the first one is asked for: an application that has no address of a server,
 * or a wrong one, can use its cache all the same.
 *
 * @internal
 */
final class DeferredLocks implements LockProvider
{
    /** @param \Closure(): LockProvider $locks */
    public function __construct(private readonly \Closure $locks)
    {
    }

    /**
     * {@see ElockLockProvider::lock()}
     *
     * @param string $name
     * @param mixed $seconds
     * @param string|null $owner
     * @return \Illuminate\Contracts\Cache\Lock
     */
    public function lock($name, $seconds = 0, $owner = null)
    {
        return ($this->locks)()->lock($name, $seconds, $owner);
    }

    /**
     * {@see ElockLockProvider::restoreLock()}
     *
     * @param string $name
     * @param string $owner
     * @return \Illuminate\Contracts\Cache\Lock
     */
    public function restoreLock($name, $owner)
    {
        return ($this->locks)()->restoreLock($name, $owner);
    }
}
