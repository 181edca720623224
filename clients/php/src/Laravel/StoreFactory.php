<?php

declare(strict_types=1);

namespace Elock\Laravel;

use Illuminate\Cache\CacheManager;
use Illuminate\Contracts\Cache\LockProvider;
use Illuminate\Contracts\Cache\Repository;
use Illuminate\Contracts\Cache\Store;
use Illuminate\Contracts\Container\Container;

/**
 * Makes the caches of the driver `elock`: on Redis, as the store's own settings or those of the named store say, or on
 * any other store.
 *
 * @internal
 */
final class StoreFactory
{
    private const DRIVER = 'elock';

    public function __construct(private readonly Container $app)
    {
    }

    /**
     * @param array<string, mixed> $config as in `cache.stores`
     * @throws \InvalidArgumentException its `store` is an elock store itself
     */
    public function repository(array $config): Repository
    {
        /** @var CacheManager $caches */
        $caches = $this->app->make('cache');
        return $caches->repository($this->store($caches, $config), $config);
    }

    /** @param array<string, mixed> $config */
    private function store(CacheManager $caches, array $config): Store
    {
        $locks = $this->app->make(ElockLockProvider::class);
        $name = $this->nameOfInner($config);
        if ($name === null) {
            return $this->redis($locks, $config);
        }
        $inner = $this->setting("cache.stores.$name");
        if (is_array($inner) && ($inner['driver'] ?? null) === 'redis') {
            return $this->redis($locks, $inner);
        }
        return new ElockStore($locks, $caches->store($name)->getStore(), $this->prefix($config));
    }

    /** @param array<string, mixed> $config */
    private function redis(LockProvider $locks, array $config): ElockRedisStore
    {
        $connection = $config['connection'] ?? 'default';
        return new ElockRedisStore(
            $locks,
            $this->app->make('redis'),
            $this->prefix($config),
            is_string($connection) ? $connection : 'default',
            $this->setting('cache.serializable_classes'),
        );
    }

    /**
     * Laravel since 10 gives a store its own name as `store` where it has none.
     *
     * @param array<string, mixed> $config
     */
    private function nameOfInner(array $config): ?string
    {
        $name = $config['store'] ?? null;
        if (!is_string($name)) {
            return null;
        }
        $named = $this->setting("cache.stores.$name");
        if ($named === null && $name === ($config['name'] ?? 'ondemand')) {
            return null;
        }
        if (!is_array($named) || ($named['driver'] ?? null) !== self::DRIVER) {
            return $name;
        }
        if ($named + ['store' => $name] != $config) {
            throw new \InvalidArgumentException("the cache store [$name] has elock's locks itself: name another one");
        }
        return null;
    }

    /** @param array<string, mixed> $config */
    private function prefix(array $config): string
    {
        $prefix = $config['prefix'] ?? $this->setting('cache.prefix');
        return is_scalar($prefix) ? (string)$prefix : '';
    }

    private function setting(string $key): mixed
    {
        return $this->app->make('config')->get($key);
    }
}
