<?php

declare(strict_types=1);

namespace Elock\Tests\Symfony;

use Elock\Client;
use Elock\Symfony\ElockSemaphoreStore;
use Elock\Symfony\ElockSemaphoreStoreFactory;
use Elock\Symfony\ElockStore;
use Elock\Symfony\ElockStoreFactory;
use Elock\Symfony\LockDeadlockException;
use Symfony\Component\Lock\Exception\InvalidArgumentException;
use Symfony\Component\Lock\Exception\LockConflictedException;
use Symfony\Component\Lock\Key;
use Symfony\Component\Lock\Store\FlockStore;
use Symfony\Component\Lock\Store\InMemoryStore;
use Symfony\Component\Semaphore\Exception\InvalidArgumentException as SemaphoreInvalidArgumentException;
use Symfony\Component\Semaphore\Key as SemaphoreKey;
use Symfony\Component\Semaphore\Store\StoreFactory as SemaphoreStoreFactory;

/** DSNs. */
final class FactoryTest extends SymfonyTestCase
{
    public function testEveryForm(): void
    {
        $tcp = str_replace('tcp://', 'elock://', $this->server->tcp());
        $unix = str_replace('unix://', 'elock+unix:', $this->server->unix());
        $key = new Key('report');
        foreach ([$tcp, "$tcp?timeout=3", "$tcp/?keys=encoded", $unix, "$unix?timeout=3", new Client($tcp)] as $dsn) {
            $store = ElockStoreFactory::createStore($dsn);
            self::assertInstanceOf(ElockStore::class, $store);
            $store->save($key);
            self::assertTrue($this->store()->exists($key));
            $store->delete($key);
        }
        $store = ElockStoreFactory::createStore('elocks://example.org?tls[cafile]=/ca');
        self::assertInstanceOf(ElockStore::class, $store);
    }

    public function testTtlAndWait(): void
    {
        $dsn = str_replace('tcp://', 'elock://', $this->server->tcp());
        $store = ElockStoreFactory::createStore("$dsn?ttl=20&wait=0.05");
        self::assertInstanceOf(ElockStore::class, $store);
        $key = new Key('report');
        $store->save($key);
        self::assertLessThanOrEqual(20.0, $key->getRemainingLifetime());
        self::assertGreaterThan(10.0, $key->getRemainingLifetime());
        $other = ElockStoreFactory::createStore("$dsn?wait=0.05&name=other");
        self::assertInstanceOf(ElockStore::class, $other);
        self::thrown(LockConflictedException::class, static fn () => $other->waitAndSave(new Key('report')));
    }

    public function testStoresOfOneServerAreOneSession(): void
    {
        $dsn = str_replace('tcp://', 'elock://', $this->server->tcp());
        $one = ElockStoreFactory::createStore($dsn);
        $other = ElockStoreFactory::createStore("$dsn?ttl=60&wait=5");
        self::assertInstanceOf(ElockStore::class, $other);
        $one->save(new Key('report'));
        self::thrown(LockDeadlockException::class, static fn () => $other->waitAndSave(new Key('report')));
        self::assertSame('2', (new Client($this->server->unix()))->info()['connected_sessions']);
        unset($one, $other);
        $this->until(fn (): bool => (new Client($this->server->unix()))->info()['connected_sessions'] === '1');
    }

    public function testEverythingElseIsSymfonys(): void
    {
        self::assertInstanceOf(FlockStore::class, ElockStoreFactory::createStore('flock'));
        self::assertInstanceOf(InMemoryStore::class, ElockStoreFactory::createStore('in-memory'));
        self::thrown(InvalidArgumentException::class, static fn () => ElockStoreFactory::createStore('unknown://x'));
        self::thrown(InvalidArgumentException::class, static fn () => ElockStoreFactory::createStore(new \stdClass()));
        self::thrown(\TypeError::class, static fn () => ElockStoreFactory::createStore(5));
    }

    /** @dataProvider wrong */
    public function testWhatIsWrong(string $dsn): void
    {
        self::thrown(InvalidArgumentException::class, static fn () => ElockStoreFactory::createStore($dsn));
    }

    /** @return iterable<array{string}> */
    public static function wrong(): iterable
    {
        foreach (
            [
                'elock://', 'elock://h:0', 'elock://h:99999', 'elock://h?tll=5', 'elock://h?ttl=0', 'elock://h?ttl=-1',
                'elock://h?ttl=soon', 'elock://h?ttl[]=5', 'elock://h?wait=0', 'elock://h?timeout=soon',
                'elock://h?timeout=0', 'elock://h?keys=md5', 'elock+unix:/',
            ] as $dsn
        ) {
            yield $dsn => [$dsn];
        }
    }

    public function testSemaphores(): void
    {
        if (!class_exists(SemaphoreStoreFactory::class)) {
            self::markTestSkipped('symfony/semaphore is not installed');
        }
        $dsn = str_replace('tcp://', 'elock://', $this->server->tcp());
        foreach (["$dsn?timeout=3", new Client($dsn)] as $connection) {
            $store = ElockSemaphoreStoreFactory::createStore($connection);
            self::assertInstanceOf(ElockSemaphoreStore::class, $store);
            $key = new SemaphoreKey('seats', 2);
            $store->save($key, 10.0);
            self::assertTrue($store->exists($key));
            $store->delete($key);
        }
        foreach (["$dsn?ttl=5", "$dsn?wait=5", 'elock://', 'unknown://x', new \stdClass()] as $wrong) {
            self::thrown(
                SemaphoreInvalidArgumentException::class,
                static fn () => ElockSemaphoreStoreFactory::createStore($wrong),
            );
        }
    }
}
