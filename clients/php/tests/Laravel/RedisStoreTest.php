<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Elock\Laravel\ElockLock;
use Elock\Laravel\ElockRedisStore;
use Elock\Tests\Scenarios\Backends\RedisBackend;
use Illuminate\Cache\RateLimiter;
use Illuminate\Cache\RedisStore;
use Illuminate\Support\Facades\Cache;
use Illuminate\Support\Facades\Redis;

/**
 * A cache in Redis with elock's locks, by both of PHP's clients of Redis.
 */
final class RedisStoreTest extends ApplicationTestCase
{
    private static ?RedisBackend $redis = null;

    public static function setUpBeforeClass(): void
    {
        parent::setUpBeforeClass();
        RedisBackend::isInstalled() || self::markTestSkipped('redis-server is not installed');
        self::$redis = new RedisBackend();
    }

    public static function tearDownAfterClass(): void
    {
        self::$redis = null;
    }

    /** @return array<string, array{string}> */
    public static function clients(): array
    {
        return ['predis' => ['predis'], 'phpredis' => ['phpredis']];
    }

    /** @dataProvider clients */
    public function testItIsARedisStoreWithOtherLocks(string $client): void
    {
        $this->redisApp($client);
        $store = Cache::getStore();
        self::assertInstanceOf(RedisStore::class, $store);
        self::assertInstanceOf(ElockRedisStore::class, $store);
        Cache::put('a', ['some' => 'thing'], 60);
        self::assertSame(['some' => 'thing'], Cache::get('a'));
        self::assertSame(['some' => 'thing'], Cache::store('redis')->get('a'));
        $lock = Cache::lock('a', 60);
        self::assertInstanceOf(ElockLock::class, $lock);
        self::assertTrue($lock->get());
        self::assertNotNull(self::seen($store->getPrefix() . 'a'));
        self::assertTrue(Cache::restoreLock('a', $lock->owner())->isOwnedByCurrentProcess());
        self::assertSame(1, $store->connection()->dbsize());
    }

    /** @dataProvider clients */
    public function testTaggedCachesHaveTheSameLocks(string $client): void
    {
        $this->redisApp($client);
        Cache::tags('x')->put('a', 1, 60);
        self::assertSame(1, (int)Cache::tags('x')->get('a'));
        $lock = Cache::tags('x')->lock('a', 60);
        self::assertTrue($lock->get());
        self::assertFalse(Cache::lock('a', 60)->get());
        self::assertTrue($lock->release());
    }

    /** @dataProvider clients */
    public function testRateLimiterOnIt(string $client): void
    {
        $app = $this->redisApp($client);
        $limiter = new RateLimiter($app->make('cache')->store('elock'));
        self::assertSame(1, (int)$limiter->hit('a'));
        self::assertSame(2, (int)$limiter->hit('a'));
        self::assertTrue($limiter->tooManyAttempts('a', 2));
        self::assertGreaterThan(0, $limiter->availableIn('a'));
        $limiter->clear('a');
        self::assertFalse($limiter->tooManyAttempts('a', 2));
    }

    /** @dataProvider clients */
    public function testClearingTheCacheFreesNoLock(string $client): void
    {
        $this->redisApp($client);
        Cache::put('a', 1, 60);
        $lock = Cache::lock('a', 60);
        $lock->get();
        self::assertTrue(Cache::flush());
        self::assertNull(Cache::get('a'));
        self::assertTrue($lock->isOwnedByCurrentProcess());
        self::thrown(\BadMethodCallException::class, static fn () => Cache::flushLocks());
        self::assertTrue($lock->isOwnedByCurrentProcess());
    }

    /** @dataProvider clients */
    public function testTheStoreOfTheName(string $client): void
    {
        $this->redisApp($client, ['driver' => 'elock', 'store' => 'redis']);
        $store = Cache::getStore();
        self::assertInstanceOf(ElockRedisStore::class, $store);
        Cache::put('a', 1, 60);
        self::assertSame(1, (int)Cache::store('redis')->get('a'));
    }

    public function testAPrefixThatIsSetLaterIsThatOfTheLocksToo(): void
    {
        $this->redisApp('predis');
        $lock = Cache::lock('a', 60);
        $lock->get();
        Cache::getStore()->setPrefix('tenant');
        self::assertTrue(Cache::lock('a', 60)->get());
        self::assertNotNull(self::seen(Cache::getPrefix() . 'a'));
        self::assertTrue($lock->release());
    }

    /** @param array<string, string> $store */
    private function redisApp(string $client, array $store = ['driver' => 'elock', 'connection' => 'default']): object
    {
        if (!($client === 'phpredis' ? extension_loaded('redis') : class_exists('Predis\Client'))) {
            self::markTestSkipped("$client is not installed");
        }
        $connection = ['scheme' => 'unix', 'path' => self::$redis->socket(), 'database' => 0];
        if ($client === 'phpredis') {
            $connection = ['host' => self::$redis->socket(), 'port' => 0, 'database' => 0];
        }
        $app = $this->app(['database.redis.client' => $client, 'database.redis.default' => $connection,
            'cache.stores.elock' => $store]);
        Redis::connection()->flushdb();
        return $app;
    }
}
