<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Elock\Laravel\ElockLock;
use Elock\Laravel\ElockLockProvider;
use Elock\Laravel\ElockRedisStore;
use Elock\Laravel\ElockStore;
use Illuminate\Cache\RateLimiter;
use Illuminate\Cache\Repository;
use Illuminate\Support\Facades\Cache;

/**
 * Any cache with elock's locks.
 */
final class StoreTest extends ApplicationTestCase
{
    public function testTheLocksOfTheDefaultStore(): void
    {
        $this->app();
        $lock = Cache::lock('a', 60);
        self::assertInstanceOf(ElockLock::class, $lock);
        self::assertTrue($lock->get());
        self::assertNotNull(self::seen('appa'));
        self::assertFalse(Cache::store('elock')->lock('a', 60)->get());
        self::assertTrue(Cache::restoreLock('a', $lock->owner())->release());
        self::assertTrue(Cache::store('file')->lock('a', 60)->get());
        self::assertNull(self::seen('appa'));
    }

    public function testTheCacheIsTheOtherStore(): void
    {
        $this->app();
        Cache::put('a', 1, 60);
        self::assertSame(1, Cache::store('file')->get('a'));
        self::assertSame(1, Cache::get('a'));
        self::assertSame(3, Cache::increment('a', 2));
        self::assertSame(2, Cache::decrement('a'));
        self::assertFalse(Cache::add('a', 9, 60));
        self::assertTrue(Cache::add('b', 9, 60));
        Cache::putMany(['c' => 'x', 'd' => 'y'], 60);
        self::assertSame(['c' => 'x', 'd' => 'y', 'e' => null], Cache::many(['c', 'd', 'e']));
        Cache::forever('e', 'z');
        self::assertSame('z', Cache::store('file')->get('e'));
        self::assertTrue(Cache::forget('e'));
        self::assertFalse(Cache::store('file')->has('e'));
        self::assertTrue(Cache::flush());
        self::assertFalse(Cache::has('a'));
        self::assertSame('', Cache::getPrefix());
    }

    public function testClearingTheCacheFreesNoLock(): void
    {
        $this->app();
        $lock = Cache::lock('a', 60);
        $lock->get();
        Cache::flush();
        self::assertTrue($lock->isOwnedByCurrentProcess());
    }

    public function testItHasNoTagsWhoseLocksWouldBeOthers(): void
    {
        $this->app(['cache.stores.elock.store' => 'array']);
        self::assertTrue(Cache::store('array')->supportsTags());
        self::assertFalse(Cache::supportsTags());
        self::thrown(\BadMethodCallException::class, static fn () => Cache::tags('x')->lock('a', 60));
        $store = Cache::getStore();
        self::thrown(\BadMethodCallException::class, static fn () => $store->tags(['x']));
        self::thrown(\BadMethodCallException::class, static fn () => $store->Tags(['x']));
        self::thrown(\BadMethodCallException::class, static fn () => $store->flushLocks());
    }

    public function testAddOnAStoreThatHasNone(): void
    {
        $this->app(['cache.stores.elock.store' => 'array']);
        self::assertTrue(Cache::add('a', 1, 60));
        self::assertFalse(Cache::add('a', 2, 60));
        self::assertSame(1, Cache::store('array')->get('a'));
    }

    public function testWhatElseTheOtherStoreCan(): void
    {
        $app = $this->app();
        $store = Cache::getStore();
        self::assertInstanceOf(ElockStore::class, $store);
        self::assertSame("$this->base/cache", $store->getDirectory());
        self::assertSame($app->make('cache')->store('file')->getStore(), $store->inner());
        self::thrown(\BadMethodCallException::class, static fn () => $store->fly());
    }

    public function testACloneHasACacheOfItsOwn(): void
    {
        $this->app();
        $clone = clone Cache::store('elock')->getStore();
        self::assertNotSame(Cache::store('file')->getStore(), $clone->inner());
    }

    public function testTheLocksHaveThePrefixOfTheCache(): void
    {
        $this->app(['cache.stores.elock' => ['driver' => 'elock', 'store' => 'file', 'prefix' => 'mine:'],
            'elock.prefix' => 'shop:']);
        Cache::lock('a', 60)->get();
        self::assertNotNull(self::seen('shop:mine:a'));
    }

    public function testAStoreWithItself(): void
    {
        $this->app(['cache.stores.other' => ['driver' => 'elock', 'store' => 'elock']]);
        self::thrown(\InvalidArgumentException::class, static fn () => Cache::store('other'));
    }

    public function testItsCacheHasItsOwnName(): void
    {
        $app = $this->app(['cache.stores.other' => ['driver' => 'elock', 'store' => 'array']]);
        $this->onlyIf('getName');
        self::assertSame('elock', $app->make('cache')->store('elock')->getName());
        self::assertSame('other', $app->make('cache')->store('other')->getName());
    }

    public function testAStoreThatIsBuiltOnDemand(): void
    {
        $caches = $this->app()->make('cache');
        if (!method_exists($caches, 'build')) {
            self::markTestSkipped('this version has none');
        }
        $store = $caches->build(['driver' => 'elock', 'store' => 'array']);
        self::assertInstanceOf(ElockStore::class, $store->getStore());
        self::assertTrue($store->lock('a', 60)->get());
        self::assertFalse(Cache::lock('a', 60)->get());
        $store = $caches->build(['driver' => 'elock', 'connection' => 'default']);
        self::assertInstanceOf(ElockRedisStore::class, $store->getStore());
    }

    public function testAStoreThatThereIsNot(): void
    {
        $this->app(['cache.stores.elock.store' => 'nothing']);
        self::thrown(\InvalidArgumentException::class, static fn () => Cache::store('elock'));
    }

    public function testRateLimiterOnIt(): void
    {
        $app = $this->app();
        $limiter = new RateLimiter($app->make('cache')->store('elock'));
        self::assertSame(1, $limiter->hit('a'));
        self::assertSame(2, $limiter->hit('a'));
        self::assertTrue($limiter->tooManyAttempts('a', 2));
        $limiter->clear('a');
        self::assertSame(0, $limiter->attempts('a'));
    }

    public function testWithoutOverlappingOfTheCache(): void
    {
        $this->app();
        $this->onlyIf('withoutOverlapping');
        $result = Cache::withoutOverlapping('a', static fn (): bool => self::seen('appa') !== null, 60);
        self::assertTrue($result);
        self::assertNull(self::seen('appa'));
    }

    public function testFunnelOfTheCache(): void
    {
        $this->app();
        $this->onlyIf('funnel');
        $funnel = static fn () => Cache::funnel('a')->limit(2)->releaseAfter(60)->block(0);
        $denied = $funnel()->then(static fn () => $funnel()->then(static fn () => $funnel()->then(
            static fn () => 'three',
            static fn () => 'denied',
        )));
        self::assertSame('denied', $denied);
        self::assertSame('free', $funnel()->then(static fn () => 'free'));
    }

    public function testFlexible(): void
    {
        $this->app();
        $this->onlyIf('flexible');
        self::assertSame('fresh', Cache::flexible('a', [60, 120], static fn () => 'fresh'));
        self::assertSame('fresh', Cache::flexible('a', [60, 120], static fn () => 'other'));
    }

    public function testMemoizedCachesHaveTheSameLocks(): void
    {
        $app = $this->app();
        if (!method_exists($app->make('cache'), 'memo')) {
            self::markTestSkipped('this version has none');
        }
        self::assertTrue($app->make('cache')->memo('elock')->lock('a', 60)->get());
        self::assertFalse(Cache::lock('a', 60)->get());
    }

    public function testFailoverCachesHaveTheSameLocks(): void
    {
        $app = $this->app(['cache.stores.safe' => ['driver' => 'failover', 'stores' => ['elock', 'array']]]);
        if (!method_exists($app->make('cache'), 'createFailoverDriver')) {
            self::markTestSkipped('this version has none');
        }
        self::assertTrue(Cache::store('safe')->lock('a', 60)->get());
        self::assertFalse(Cache::lock('a', 60)->get());
    }

    public function testItsProviderGivesTheLocksWithoutThePrefixOfTheCache(): void
    {
        $app = $this->app();
        Cache::lock('a', 60)->get();
        self::assertFalse($app->make(ElockLockProvider::class)->lock('appa', 60)->get());
    }

    private function onlyIf(string $method): void
    {
        if (!method_exists(Repository::class, $method)) {
            self::markTestSkipped('this version has none');
        }
    }
}
