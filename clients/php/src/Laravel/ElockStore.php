<?php

declare(strict_types=1);

namespace Elock\Laravel;

use BadMethodCallException;
use Illuminate\Contracts\Cache\LockProvider;
use Illuminate\Contracts\Cache\Store;

/**
 * Any cache, with locks that are kept by an elockd server. It has no tags: a tagged cache would be the inner one's, and
 * so would its locks.
 *
 * @mixin Store
 */
class ElockStore implements LockProvider, Store
{
    /** What must not go to the inner store, which may have locks of its own. */
    private const REFUSED = ['tags' => 'tagging', 'flushlocks' => 'flushing locks'];

    /**
     * @param LockProvider $locks gives the locks, by their names with the prefix
     * @param string $lockPrefix of locks, if the inner store has no prefix
     */
    public function __construct(
        private readonly LockProvider $locks,
        private Store $inner,
        private readonly string $lockPrefix = '',
    ) {
    }

    /** Session handlers clone a cache in order to set it up for themselves. */
    public function __clone()
    {
        $this->inner = clone $this->inner;
    }

    /** The cache that has all but the locks. */
    public function inner(): Store
    {
        return $this->inner;
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
        return $this->locks->lock($this->lockName($name), $seconds, $owner);
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
        return $this->locks->restoreLock($this->lockName($name), $owner);
    }

    /**
     * @param string|list<string> $key
     * @return mixed
     */
    public function get($key)
    {
        return $this->inner->get($key);
    }

    /**
     * @param list<string> $keys
     * @return array<string, mixed>
     */
    public function many(array $keys)
    {
        return $this->inner->many($keys);
    }

    /**
     * @param string $key
     * @param mixed $value
     * @param int $seconds
     * @return bool
     */
    public function put($key, $value, $seconds)
    {
        return $this->inner->put($key, $value, $seconds);
    }

    /**
     * @param array<string, mixed> $values
     * @param int $seconds
     * @return bool
     */
    public function putMany(array $values, $seconds)
    {
        return $this->inner->putMany($values, $seconds);
    }

    /**
     * Stores what is not there yet; in one step if the inner store can, and else as Laravel does for such a store.
     *
     * @param string $key
     * @param mixed $value
     * @param int $seconds
     * @return bool
     */
    public function add($key, $value, $seconds)
    {
        if (method_exists($this->inner, 'add')) {
            return $this->inner->add($key, $value, $seconds);
        }
        return $this->inner->get($key) === null && $this->inner->put($key, $value, $seconds);
    }

    /**
     * @param string $key
     * @param mixed $value
     * @return int|bool
     */
    public function increment($key, $value = 1)
    {
        return $this->inner->increment($key, $value);
    }

    /**
     * @param string $key
     * @param mixed $value
     * @return int|bool
     */
    public function decrement($key, $value = 1)
    {
        return $this->inner->decrement($key, $value);
    }

    /**
     * @param string $key
     * @param mixed $value
     * @return bool
     */
    public function forever($key, $value)
    {
        return $this->inner->forever($key, $value);
    }

    /**
     * A part of Laravel's interface since 13.
     *
     * @param string $key
     * @param int $seconds
     * @return bool
     * @throws BadMethodCallException the inner store cannot
     */
    public function touch($key, $seconds)
    {
        return $this->__call('touch', [$key, $seconds]);
    }

    /**
     * @param string $key
     * @return bool
     */
    public function forget($key)
    {
        return $this->inner->forget($key);
    }

    /**
     * Clears the cache. It frees no locks.
     *
     * @return bool
     */
    public function flush()
    {
        return $this->inner->flush();
    }

    /**
     * @return string
     */
    public function getPrefix()
    {
        return $this->inner->getPrefix();
    }

    /**
     * Whatever else the inner store can do.
     *
     * @param array<array-key, mixed> $arguments
     * @throws BadMethodCallException it cannot, or it would not be done by the server that keeps the locks
     */
    public function __call(string $method, array $arguments): mixed
    {
        $refused = self::REFUSED[strtolower($method)] ?? null;
        if ($refused !== null) {
            throw new BadMethodCallException("This cache store does not support $refused.");
        }
        if (!is_callable([$this->inner, $method])) {
            throw new BadMethodCallException(sprintf('%s has no method %s()', get_class($this->inner), $method));
        }
        return $this->inner->$method(...$arguments);
    }

    private function lockName(mixed $name): string
    {
        $prefix = (string)$this->inner->getPrefix();
        return ($prefix === '' ? $this->lockPrefix : $prefix) . $name;
    }
}
