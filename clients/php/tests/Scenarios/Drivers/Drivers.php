<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Drivers;

use Elock\Client;
use Elock\Laravel\ElockLockProvider;
use Elock\Options;
use Elock\Symfony\ElockStore;
use Elock\Tests\Scenarios\Backends\RedisBackend;
use Elock\Tests\Scenarios\Driver;
use Elock\Tests\Scenarios\Faults\Fault;
use Illuminate\Cache\RedisStore as LaravelRedis;
use Illuminate\Redis\RedisManager;
use Symfony\Component\Lock\Store\RedisStore as SymfonyRedis;

/**
 * The drivers by name.
 */
final class Drivers
{
    public const PLAIN = 'elock alone';
    public const LARAVEL = 'Laravel on elock';
    public const SYMFONY = 'Symfony on elock';
    public const LARAVEL_REDIS = 'Laravel on Redis';
    public const SYMFONY_REDIS = 'Symfony on Redis';
    public const ALL = [self::PLAIN, self::LARAVEL, self::SYMFONY, self::LARAVEL_REDIS, self::SYMFONY_REDIS];

    private const PREFIX = 'app:';

    public static function isOnRedis(string $driver): bool
    {
        return in_array($driver, [self::LARAVEL_REDIS, self::SYMFONY_REDIS], true);
    }

    public static function isSymfony(string $driver): bool
    {
        return in_array($driver, [self::SYMFONY, self::SYMFONY_REDIS], true);
    }

    /** Why it cannot run here; null: it can. */
    public static function missing(string $driver): ?string
    {
        $needs = match ($driver) {
            self::PLAIN => [],
            self::LARAVEL => [\Illuminate\Cache\Lock::class, ElockLockProvider::class],
            self::SYMFONY => [\Symfony\Component\Lock\Lock::class, ElockStore::class],
            self::LARAVEL_REDIS => [LaravelRedis::class, RedisManager::class, \Redis::class],
            self::SYMFONY_REDIS => [SymfonyRedis::class, \Redis::class],
        };
        foreach ($needs as $class) {
            if (!class_exists($class)) {
                return "$class is not installed";
            }
        }
        return self::isOnRedis($driver) && !RedisBackend::isInstalled() ? 'redis-server is not installed' : null;
    }

    /**
     * @param string $address a server's, as `tcp://` or `unix://`
     * @param float $timeout how long an answer may take, in seconds
     */
    public static function make(string $driver, string $address, float $timeout, ?Fault $fault = null): Driver
    {
        $driver = match ($driver) {
            self::PLAIN => new PlainDriver(self::client($address, $timeout)),
            self::LARAVEL => self::laravel($address, $timeout),
            self::SYMFONY => self::symfony($address, $timeout),
            self::LARAVEL_REDIS => self::laravelOnRedis($address, $timeout),
            self::SYMFONY_REDIS => self::symfonyOnRedis($address, $timeout),
        };
        return $fault === null ? $driver : $fault->in($driver);
    }

    private static function client(string $address, float $timeout): Client
    {
        return new Client($address, new Options(connectTimeout: $timeout, timeout: $timeout));
    }

    private static function laravel(string $address, float $timeout): Driver
    {
        $locks = new ElockLockProvider(self::client($address, $timeout), self::PREFIX);
        return new LaravelDriver($locks, static function (): void {
        });
    }

    private static function symfony(string $address, float $timeout): Driver
    {
        return new SymfonyDriver(new ElockStore(self::client($address, $timeout)), static function (): void {
        });
    }

    private static function laravelOnRedis(string $address, float $timeout): Driver
    {
        [$host, $port] = self::hostAndPort($address);
        $manager = new RedisManager(null, 'phpredis', ['default' => [
            'host' => $host,
            'port' => $port,
            'timeout' => $timeout,
            'read_timeout' => $timeout,
        ]]);
        $store = new LaravelRedis($manager, self::PREFIX);
        return new LaravelDriver($store, static function () use ($manager, $host, $port, $timeout): void {
            self::reconnect($manager->connection()->client(), $host, $port, $timeout);
        });
    }

    private static function symfonyOnRedis(string $address, float $timeout): Driver
    {
        [$host, $port] = self::hostAndPort($address);
        $redis = new \Redis();
        $redis->connect($host, $port, $timeout, null, 0, $timeout);
        $afterFork = static function () use ($redis, $host, $port, $timeout): void {
            self::reconnect($redis, $host, $port, $timeout);
        };
        return new SymfonyDriver(new SymfonyRedis($redis), $afterFork);
    }

    /** A socket that is shared over a fork gives each the other's answers. */
    private static function reconnect(\Redis $redis, string $host, int $port, float $timeout): void
    {
        $redis->close();
        $redis->connect($host, $port, $timeout, null, 0, $timeout);
    }

    /** @return array{string, int} as ext-redis takes them */
    public static function hostAndPort(string $address): array
    {
        if (str_starts_with($address, 'unix://')) {
            return [substr($address, strlen('unix://')), 0];
        }
        $parts = parse_url($address);
        return [$parts['host'], $parts['port']];
    }
}
