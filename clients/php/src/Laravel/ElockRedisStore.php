<?php

declare(strict_types=1);

namespace Elock\Laravel;

use BadMethodCallException;
use Illuminate\Cache\RedisStore;
use Illuminate\Contracts\Cache\LockProvider;
use Illuminate\Contracts\Redis\Factory;

/**
 * A Redis cache whose locks are kept by an elockd server. It is a RedisStore for those who ask (rate limiters do), and
 * its tagged caches give the same locks.
 */
class ElockRedisStore extends RedisStore
{
    /**
     * @param LockProvider $locks gives the locks, by their names with this cache's prefix
     * @param string $prefix of the cache, and of the locks
     * @param string $connection the Redis connection of the cache
     * @param array<array-key, mixed>|bool|null $serializableClasses known by Laravel 13
     */
    public function __construct(
        private readonly LockProvider $locks,
        Factory $redis,
        $prefix = '',
        $connection = 'default',
        $serializableClasses = null,
    ) {
        parent::__construct($redis, $prefix, $connection, $serializableClasses);
    }

    /**
     * A lock, not taken yet. {@see ElockLockProvider::lock()}
     *
     * @param string $name
     * @param mixed $seconds
     * @param string|null $owner
     * @return \Illuminate\Contracts\Cache\Lock
     */
    public function lock($name, $seconds = 0, $owner = null)
    {
        return $this->locks->lock($this->getPrefix() . $name, $seconds, $owner);
    }

    /**
     * A lock that this owner has taken. {@see ElockLockProvider::restoreLock()}
     *
     * @param string $name
     * @param string $owner
     * @return \Illuminate\Contracts\Cache\Lock
     */
    public function restoreLock($name, $owner)
    {
        return $this->locks->restoreLock($this->getPrefix() . $name, $owner);
    }

    /**
     * Is not supported: a lock is freed by its owner, or by forceRelease().
     *
     * @throws BadMethodCallException always
     */
    public function flushLocks(): bool
    {
        throw new BadMethodCallException('This cache store does not support flushing locks.');
    }

    /** Clearing the cache frees no locks. */
    public function hasSeparateLockStore(): bool
    {
        return true;
    }
}
