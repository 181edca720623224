<?php

declare(strict_types=1);

namespace Elock\Tests\Dlock;

use Dlock\Lock;
use Elock\Client;
use Elock\Dlock\ElockDatastore;
use Elock\Dlock\ElockLock;
use Elock\Exception\ConnectionException;
use Elock\Exception\DeadlockException;
use Elock\Exception\LostException;
use Elock\Exception\RefusedException;
use Elock\Tests\Support\Server;
use PHPUnit\Framework\TestCase;

final class DlockTest extends TestCase
{
    private Server $server;
    private Client $client;

    public static function setUpBeforeClass(): void
    {
        require_once __DIR__ . '/stand_in.php';
    }

    protected function setUp(): void
    {
        $this->server = Server::start();
        $this->client = Client::connect($this->server->tcp());
    }

    public function testOneAtATimeAlsoOnOneConnection(): void
    {
        $first = new ElockDatastore($this->client);
        $second = new ElockDatastore($this->client);
        self::assertTrue($first->acquireLock('import'));
        self::assertFalse($first->acquireLock('import'));
        self::assertFalse($second->acquireLock('import'));
        self::assertFalse($second->releaseLock('import'));
        self::assertTrue($first->acquireLock('other'));
        self::assertTrue($first->releaseLock('import'));
        self::assertFalse($first->releaseLock('import'));
        self::assertTrue($second->acquireLock('import'));
    }

    public function testALockOutlivesTheConnectionForItsTtl(): void
    {
        $store = new ElockDatastore($client = Client::connect($this->server->unix()), 900);
        $store->acquireLock('import');
        $client->close();
        $lease = $this->lock('import')['holders'][0]['lease_left_ms'];
        self::assertGreaterThan(600_000, $lease);
        self::assertLessThanOrEqual(900_000, $lease);
        self::assertTrue($store->releaseLock('import'));
    }

    public function testWithoutATtlItStays(): void
    {
        (new ElockDatastore($this->client, 0))->acquireLock('import');
        self::assertArrayNotHasKey('lease_left_ms', $this->lock('import')['holders'][0]);
    }

    public function testALockEndsWithItsTtl(): void
    {
        $store = new ElockDatastore($this->client, 0.05);
        self::assertTrue($store->acquireLock('import'));
        // Waits in the queue until then.
        $next = $this->client->lock('import', wait: 30);
        self::assertFalse($store->releaseLock('import'));
        self::assertTrue($next->isHeld());
    }

    /** @dataProvider noTtls */
    public function testWhatIsNoTtl(float $ttl): void
    {
        $this->expectException(\InvalidArgumentException::class);
        new ElockDatastore($this->client, $ttl);
    }

    /** @return list<array{float}> */
    public function noTtls(): array
    {
        return [[-1.0], [NAN]];
    }

    public function testALateOneDoesNotReleaseItsSuccessorsLock(): void
    {
        $late = new ElockDatastore($this->client);
        $late->acquireLock('import');
        $this->client->break('import');
        $next = new ElockDatastore($this->client);
        self::assertTrue($next->acquireLock('import'));
        self::assertFalse($late->releaseLock('import'));
        self::assertFalse($late->acquireLock('import'));
        self::assertTrue($next->releaseLock('import'));
    }

    public function testAServerThatIsGoneIsNoRefusal(): void
    {
        $store = new ElockDatastore($this->client);
        $this->server->kill();
        $this->expectException(ConnectionException::class);
        $store->acquireLock('import');
    }

    public function testTheLockWaits(): void
    {
        $holder = $this->client->owner();
        $held = $holder->lock('dlock:import', lease: 900);
        $lock = new ElockLock(new ElockDatastore(Client::connect($this->server->tcp())), 'import');
        self::assertFalse($lock->acquire());
        self::assertSame(RefusedException::class, get_class($lock->refusal()));
        $held->expire(0.2);
        self::assertTrue($lock->acquire(30));
        self::assertNull($lock->refusal());
        self::assertGreaterThan($held->token(), $lock->token());
        self::assertTrue($lock->release());
    }

    public function testTheLockTellsThatItIsLost(): void
    {
        $lock = new ElockLock(new ElockDatastore($this->client), 'import', ['ds_key_prefix' => 'app']);
        self::assertTrue($lock->acquire());
        self::assertTrue($this->client->break('app:import'));
        self::assertFalse($lock->release());
        $this->expectException(LostException::class);
        $lock->token();
    }

    public function testADeadlockIsARefusalThatNamesTheCircle(): void
    {
        $store = new ElockDatastore($this->client, 0);
        self::assertTrue((new ElockLock($store, 'import'))->acquire());
        $again = new ElockLock($store, 'import');
        self::assertFalse($again->acquire(30));
        $refusal = $again->refusal();
        self::assertInstanceOf(DeadlockException::class, $refusal);
        self::assertSame('dlock:import', $refusal->circle()[0]['key']);
    }

    public function testLockedReleases(): void
    {
        foreach ([ElockLock::class, Lock::class] as $class) {
            $lock = new $class(new ElockDatastore($this->client), 'import');
            self::assertSame('done', $lock->locked(fn (): string => 'done'));
            try {
                $lock->locked(static fn () => throw new \LogicException('failed'));
                self::fail('nothing was thrown');
            } catch (\LogicException) {
                self::assertNull($this->client->holder('dlock:import'));
            }
        }
    }

    /** @return array<string, mixed> */
    private function lock(string $key): array
    {
        return iterator_to_array($this->client->locks($key))[0];
    }
}
