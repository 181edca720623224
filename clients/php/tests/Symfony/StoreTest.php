<?php

declare(strict_types=1);

namespace Elock\Tests\Symfony;

use Elock\Client;
use Elock\Options;
use Elock\Exception\ElockException;
use Elock\Symfony\ElockStore;
use Elock\Symfony\LockDeadlockException;
use Elock\Symfony\LockNotPromotedException;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Worker;
use Symfony\Component\Lock\Exception\InvalidTtlException;
use Symfony\Component\Lock\Exception\LockAcquiringException;
use Symfony\Component\Lock\Exception\LockConflictedException;
use Symfony\Component\Lock\Exception\LockExpiredException;
use Symfony\Component\Lock\Exception\LockStorageException;
use Symfony\Component\Lock\Key;
use Symfony\Component\Lock\LockFactory;

/** One process, each method. */
final class StoreTest extends SymfonyTestCase
{
    public function testOneAtATime(): void
    {
        $store = $this->store();
        [$one, $other] = [new Key('report'), new Key('report')];
        $store->save($one);
        self::thrown(LockConflictedException::class, static fn () => $store->save($other));
        self::assertSame([true, false], [$store->exists($one), $store->exists($other)]);
        $store->delete($other);
        self::assertTrue($store->exists($one));
        $store->delete($one);
        self::assertFalse($store->exists($one));
        $store->delete($one);
        $store->save($other);
        self::assertSame([false, true], [$store->exists($one), $store->exists($other)]);
    }

    public function testOfAKeyThatNeverAskedNothingIsAsked(): void
    {
        $store = new ElockStore(new Client('tcp://127.0.0.1:1'));
        $key = new Key('report');
        self::assertFalse($store->exists($key));
        $store->delete($key);
        self::thrown(LockConflictedException::class, static fn () => $store->putOffExpiration($key, 1.0));
        self::thrown(LockConflictedException::class, static fn () => $store->token($key));
    }

    public function testNamesOfAnyBytes(): void
    {
        $store = $this->store();
        foreach (['', ' ', 'a b', 'a%20b', "\n\r\0", 'é', "\xFF", 'HTTP/1.1', str_repeat('x', 5000)] as $resource) {
            $store->save(new Key($resource));
            self::thrown(LockConflictedException::class, static fn () => $store->save(new Key($resource)));
        }
    }

    public function testRenewedByTakingItAgain(): void
    {
        $store = $this->store(1000.0);
        $key = new Key('report');
        $store->save($key);
        $store->putOffExpiration($key, 50.0);
        self::assertLessThanOrEqual(50.0, $this->leaseLeft('report'));
        $token = $store->token($key);
        $key->resetLifetime();
        $store->save($key);
        self::assertGreaterThan(900.0, $this->leaseLeft('report'));
        self::assertGreaterThan(900.0, $key->getRemainingLifetime());
        self::assertSame($token, $store->token($key));
        $key->resetLifetime();
        $store->waitAndSave($key);
        self::assertSame($token, $store->token($key));
    }

    public function testWhatTheKeySaysIsNeverMoreThanTheLease(): void
    {
        $store = $this->store(20.0);
        $key = new Key('report');
        foreach (['save', 'saveRead', 'waitAndSave', 'waitAndSaveRead'] as $method) {
            $key->resetLifetime();
            $store->$method($key);
            $known = $key->getRemainingLifetime();
            self::assertGreaterThan(0.0, $known);
            $key->resetLifetime();
            $key->reduceLifetime($known);
            // Asked later, the lease can only have less left, but for the milliseconds of its clock.
            self::assertLessThanOrEqual($this->leaseLeft('report') + 0.01, $key->getRemainingLifetime());
        }
    }

    public function testExpires(): void
    {
        $store = $this->store();
        $key = new Key('report');
        $store->save($key);
        $store->putOffExpiration($key, 0.05);
        $this->until(static fn (): bool => !$store->exists($key));
        self::assertTrue($key->isExpired());
        $key->resetLifetime();
        self::thrown(LockConflictedException::class, static fn () => $store->putOffExpiration($key, 10.0));
        $store->save(new Key('report'));
    }

    public function testTheSmallestTtlIsALimit(): void
    {
        $store = $this->store();
        foreach ([1e-9, 0.0, -1.0] as $ttl) {
            $key = new Key('report');
            $store->save($key);
            self::thrown(LockExpiredException::class, static fn () => $store->putOffExpiration($key, $ttl));
            self::assertFalse($store->exists($key));
        }
        self::thrown(LockExpiredException::class, fn () => $this->store(1e-9)->save(new Key('report')));
        $store->save(new Key('report'));
    }

    public function testAKeyThatIsOverIsNotSaved(): void
    {
        $store = $this->store();
        foreach (['save', 'saveRead', 'waitAndSave', 'waitAndSaveRead'] as $method) {
            $key = new Key('report');
            $key->reduceLifetime(0.0);
            self::thrown(LockExpiredException::class, static fn () => $store->$method($key));
            self::assertFalse($store->exists($key));
        }
        $store->save(new Key('report'));
    }

    public function testTtlsThatAreNone(): void
    {
        foreach ([[0.0], [-1.0], [NAN], [300.0, 0.0], [300.0, -1.0], [300.0, NAN]] as $numbers) {
            self::thrown(InvalidTtlException::class, fn () => $this->store(...$numbers));
        }
    }

    public function testReadersAndAWriter(): void
    {
        $store = $this->store();
        [$one, $other, $writer] = [new Key('page'), new Key('page'), new Key('page')];
        $store->saveRead($one);
        $store->saveRead($other);
        self::thrown(LockConflictedException::class, static fn () => $store->save($writer));
        self::assertSame([true, true], [$store->exists($one), $store->exists($other)]);
        $store->delete($one);
        $store->delete($other);
        $store->save($writer);
        self::thrown(LockConflictedException::class, static fn () => $store->saveRead($one));
    }

    public function testPromotion(): void
    {
        $store = $this->store();
        [$one, $other] = [new Key('page'), new Key('page')];
        $store->saveRead($one);
        $store->saveRead($other);
        $store->putOffExpiration($one, 5000.0);
        self::thrown(LockNotPromotedException::class, static fn () => $store->save($one));
        self::assertTrue($store->exists($one));
        self::assertGreaterThan(4000.0, $this->leaseLeft('page'), 'what is kept is kept for as long as before');
        $store->delete($other);
        $token = $store->token($one);
        $store->save($one);
        self::assertSame($token, $store->token($one));
        self::thrown(LockConflictedException::class, static fn () => $store->saveRead($other));
    }

    public function testDemotion(): void
    {
        $store = $this->store();
        [$one, $other] = [new Key('page'), new Key('page')];
        $store->save($one);
        $token = $store->token($one);
        $store->saveRead($one);
        self::assertSame($token, $store->token($one));
        $store->saveRead($other);
        self::assertSame([true, true], [$store->exists($one), $store->exists($other)]);
    }

    public function testTokensGrow(): void
    {
        $store = $this->store();
        $last = 0;
        foreach (['save', 'saveRead', 'waitAndSave', 'waitAndSaveRead'] as $method) {
            $key = new Key('report');
            $store->$method($key);
            self::assertGreaterThan($last, $store->token($key));
            $last = $store->token($key);
            $store->delete($key);
            self::thrown(LockConflictedException::class, static fn () => $store->token($key));
        }
    }

    public function testTheLongestWait(): void
    {
        $store = $this->store();
        $store->save(new Key('report'));
        $waiting = $this->store(300.0, 0.05);
        self::thrown(LockConflictedException::class, static fn () => $waiting->waitAndSave(new Key('report')));
        self::thrown(LockConflictedException::class, static fn () => $waiting->waitAndSaveRead(new Key('report')));
        [$one, $other] = [new Key('page'), new Key('page')];
        $store->saveRead($one);
        $store->saveRead($other);
        self::thrown(LockNotPromotedException::class, static fn () => $waiting->waitAndSave($one));
        self::assertTrue($store->exists($one));
    }

    public function testWaitsForAnotherLeaseLongerThanItsOwnTtl(): void
    {
        $store = $this->store(300.0);
        $first = new Key('report');
        $store->save($first);
        $store->putOffExpiration($first, 0.3);
        $second = new Key('report');
        $waiting = $this->store(0.2);
        $waiting->waitAndSave($second);
        self::assertFalse($second->isExpired());
    }

    public function testAReaderThatExpiresWhileItWaitsForItsPromotion(): void
    {
        $store = $this->store();
        [$one, $other] = [new Key('page'), new Key('page')];
        $store->saveRead($one);
        $store->saveRead($other);
        $store->putOffExpiration($one, 0.1);
        self::thrown(LockExpiredException::class, static fn () => $store->waitAndSave($one));
        self::assertFalse($store->exists($one));
        self::assertTrue($store->exists($other));
    }

    public function testDeadlockTellsTheCircle(): void
    {
        // The lease ends before the wait would: no reason to wait for it.
        $store = $this->store(10.0, 30.0);
        $store->save(new Key('a b'));
        $deadlock = self::thrown(
            LockDeadlockException::class,
            static fn () => $store->waitAndSave(new Key('a b')),
        );
        self::assertSame(['a b'], array_column($deadlock->circle(), 'key'));
        self::assertInstanceOf(ElockException::class, $deadlock->getPrevious());
        // By Symfony's own class, it is one of those that are no storage's fault.
        $lock = (new LockFactory($store))->createLock('a b');
        self::assertFalse($lock->acquire());
        self::thrown(LockDeadlockException::class, static fn () => $lock->acquire(true));
    }

    public function testByTheFactory(): void
    {
        $factory = new LockFactory($this->store());
        $lock = $factory->createLock('report', 30.0);
        self::assertTrue($lock->acquire());
        self::assertFalse($factory->createLock('report')->acquire());
        self::assertFalse($factory->createLock('report')->acquireRead());
        $lock->refresh(60.0);
        self::assertGreaterThan(30.0, $lock->getRemainingLifetime());
        self::assertTrue($lock->isAcquired());
        $lock->release();
        self::assertFalse($lock->isAcquired());
        $endless = $factory->createLock('report', null);
        self::assertTrue($endless->acquire(true));
        unset($endless);
        self::assertTrue($factory->createLock('report')->acquireRead(true), 'released with its object');
    }

    /** @dataProvider answers */
    public function testWhatIsNoRefusalIsAStoragesFault(string $answer): void
    {
        $fake = new Worker(__DIR__ . '/fake_server.php', [$answer]);
        $this->assertStorageFails(new ElockStore(new Client('tcp://127.0.0.1:' . $fake->hear()), 300.0, 0.05));
    }

    /** @return iterable<string, array{string}> */
    public static function answers(): iterable
    {
        yield 'an old server' => ['400 Usage: lock <key> [seconds]'];
        yield 'a bad request' => ['400 Bad owner'];
        yield 'too long' => ['413 Line too long: at most 100 bytes'];
        yield 'not stored' => ['500 Not stored: no space left on device'];
        yield 'stopping' => ['503 Shutting down'];
        yield 'full of connections' => ['503 Too many connections: at most 1'];
        yield 'full' => ['507 Too many locks in this server: at most 1'];
        yield 'no code of the protocol' => ['299 Perhaps'];
        yield 'no answer of the protocol' => ['+OK'];
    }

    public function testNoServerIsAStoragesFault(): void
    {
        // For as long as it may take, it waits for the server's return.
        $impatient = fn (): Client => new Client($this->server->tcp(), new Options(timeout: 0.2));
        $store = new ElockStore($impatient(), 300.0, 0.1);
        $key = new Key('report');
        $store->save($key);
        $this->server->kill();
        $this->assertStorageFails($store, $key);
        $this->assertStorageFails(new ElockStore($impatient(), 300.0, 0.1));
        $lock = (new LockFactory($store))->createLock('report');
        self::thrown(LockAcquiringException::class, static fn () => $lock->acquire());
    }

    public function testAFullServerIsAStoragesFault(): void
    {
        $server = Server::start('--max-locks', '1');
        $store = new ElockStore(new Client($server->tcp()));
        $key = new Key('one');
        $store->save($key);
        self::thrown(LockStorageException::class, static fn () => $store->save(new Key('two')));
        self::thrown(LockStorageException::class, static fn () => $store->waitAndSave(new Key('two')));
        self::thrown(LockStorageException::class, static fn () => $store->saveRead(new Key('two')));
        self::thrown(LockConflictedException::class, static fn () => $store->save(new Key('one')));
        self::assertTrue($store->exists($key));
    }

    private function assertStorageFails(ElockStore $store, ?Key $key = null): void
    {
        foreach (['save', 'saveRead', 'waitAndSave', 'waitAndSaveRead', 'delete', 'exists', 'token'] as $method) {
            $of = $key ?? $this->keyThatAsked();
            self::thrown(LockStorageException::class, static fn () => $store->$method($of));
        }
        $of = $key ?? $this->keyThatAsked();
        self::thrown(LockStorageException::class, static fn () => $store->putOffExpiration($of, 10.0));
    }

    /** One that has an owner, at a server of its own. */
    private function keyThatAsked(): Key
    {
        $key = new Key('report');
        $store = new ElockStore(new Client('tcp://127.0.0.1:1'));
        self::thrown(LockStorageException::class, static fn () => $store->save($key));
        return $key;
    }

    /** Of all holders, in seconds. */
    private function leaseLeft(string $key): float
    {
        foreach ((new Client($this->server->tcp()))->locks($key) as $lock) {
            return max(array_column($lock['holders'], 'lease_left_ms')) / 1000.0;
        }
        self::fail('nobody holds it');
    }
}
