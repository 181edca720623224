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
        [$name, $settings] = $this->asWritten($config);
        // Whoever finds a lock's store again by the name of its cache has to find this one.
        return $caches->repository($this->store($caches, $settings), ['store' => $name] + $settings);
    }

    /** @param array<array-key, mixed> $settings */
    private function store(CacheManager $caches, array $settings): Store
    {
        $locks = new DeferredLocks(fn (): LockProvider => $this->app->make(ElockLockProvider::class));
        $name = $settings['store'] ?? null;
        if (!is_string($name)) {
            return $this->redis($locks, $settings);
        }
        $inner = $this->setting("cache.stores.$name");
        $driver = is_array($inner) ? $inner['driver'] ?? null : null;
        if ($driver === self::DRIVER) {
            throw new \InvalidArgumentException("the cache store [$name] has elock's locks itself: name another one");
        }
        if (is_array($inner) && $driver === 'redis') {
            return $this->redis($locks, $inner);
        }
        return new ElockStore($locks, $caches->store($name)->getStore(), $this->prefix($settings));
    }

    /** @param array<array-key, mixed> $config */
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
     * The name and the settings of the store. Laravel since 10 gives a store its own name as `store` where it has none,
     * and older ones do not tell the name.
     *
     * @param array<string, mixed> $config
     * @return array{string, array<array-key, mixed>}
     */
    private function asWritten(array $config): array
    {
        $all = $this->setting('cache.stores');
        $stores = array_filter(is_array($all) ? $all : [], is_array(...));
        foreach ([false, true] as $isCompleted) {
            foreach ($stores as $name => $settings) {
                if (($isCompleted ? $settings + ['store' => $name] : $settings) == $config) {
                    return [(string)$name, $settings];
                }
            }
        }
        // One that was built on demand.
        $name = is_string($config['name'] ?? null) ? $config['name'] : 'ondemand';
        $isCompleted = ($config['store'] ?? null) === $name;
        return [$name, $isCompleted ? array_diff_key($config, ['store' => true]) : $config];
    }

    /** @param array<array-key, mixed> $config */
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
