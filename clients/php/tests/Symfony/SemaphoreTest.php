<?php

declare(strict_types=1);

namespace Elock\Tests\Symfony;

use Elock\Client;
use Elock\Symfony\ElockSemaphoreStore;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Worker;
use Symfony\Component\Semaphore\Exception\InvalidArgumentException;
use Symfony\Component\Semaphore\Exception\RuntimeException;
use Symfony\Component\Semaphore\Exception\SemaphoreAcquiringException;
use Symfony\Component\Semaphore\Exception\SemaphoreExpiredException;
use Symfony\Component\Semaphore\Key;
use Symfony\Component\Semaphore\SemaphoreFactory;

final class SemaphoreTest extends SymfonyTestCase
{
    protected function setUp(): void
    {
        if (!class_exists(Key::class)) {
            self::markTestSkipped('symfony/semaphore is not installed');
        }
        parent::setUp();
    }

    public function testAsManyAsTheLimit(): void
    {
        $store = $this->semaphores();
        $keys = array_map(static fn (): Key => new Key('seats', 3), range(1, 4));
        foreach ([0, 1, 2] as $number) {
            $store->save($keys[$number], 10.0);
            self::assertTrue($store->exists($keys[$number]));
        }
        self::thrown(SemaphoreAcquiringException::class, static fn () => $store->save($keys[3], 10.0));
        self::assertFalse($store->exists($keys[3]));
        $store->delete($keys[3]);
        $store->delete($keys[1]);
        self::assertFalse($store->exists($keys[1]));
        $store->save($keys[3], 10.0);
        self::assertSame(3, $this->held());
    }

    public function testWeights(): void
    {
        $store = $this->semaphores();
        [$two, $three, $one] = [new Key('seats', 5, 2), new Key('seats', 5, 3), new Key('seats', 5)];
        $store->save($two, 10.0);
        self::assertSame(2, $this->held());
        $store->save($three, 10.0);
        self::assertSame(5, $this->held());
        self::thrown(SemaphoreAcquiringException::class, static fn () => $store->save($one, 10.0));
        $store->delete($two);
        self::assertSame(3, $this->held());
        $store->save($one, 10.0);
        $client = new Client($this->server->tcp());
        $grants = $client->info()['grants'];
        self::thrown(SemaphoreAcquiringException::class, static fn () => $store->save($two, 10.0));
        self::assertSame($grants, $client->info()['grants'], 'one that does not fit takes nothing, not for a moment');
        self::assertSame(4, $this->held());
        self::assertSame([false, true, true], array_map($store->exists(...), [$two, $three, $one]));
        $store->delete($one);
        $store->save($two, 10.0);
        self::assertSame(5, $this->held());
    }

    public function testAKeyOfManySlots(): void
    {
        $store = $this->semaphores();
        $key = new Key('seats', 3000, 2000);
        $store->save($key, 10.0);
        self::assertSame(2000, $this->held());
        self::assertTrue($store->exists($key));
        $tooLarge = new Key('seats', 3000, 1001);
        self::thrown(SemaphoreAcquiringException::class, static fn () => $store->save($tooLarge, 10.0));
        $store->save(new Key('seats', 3000, 1000), 10.0);
        $store->putOffExpiration($key, 20.0);
        $store->save($key, 30.0);
        self::assertSame(3000, $this->held());
        $store->delete($key);
        self::assertSame(1000, $this->held());
    }

    public function testSavedAgainIsRenewed(): void
    {
        $store = $this->semaphores();
        foreach ([1, 3] as $weight) {
            $key = new Key('seats', 3, $weight);
            $store->save($key, 10.0);
            $store->save($key, 1000.0);
            self::assertSame($weight, $this->held());
            self::assertGreaterThan(900.0, $this->leaseLeft());
            $store->delete($key);
            self::assertSame(0, $this->held());
        }
    }

    public function testExpires(): void
    {
        $store = $this->semaphores();
        $key = new Key('seats', 3, 3);
        $store->save($key, 10.0);
        $store->putOffExpiration($key, 0.05);
        $this->until(static fn (): bool => !$store->exists($key));
        $this->until(fn (): bool => $this->held() === 0);
        self::thrown(SemaphoreExpiredException::class, static fn () => $store->putOffExpiration($key, 10.0));
        $store->save(new Key('seats', 3, 3), 10.0);
    }

    public function testWhatIsLostInPartIsGivenBack(): void
    {
        $store = $this->semaphores();
        $key = new Key('seats', 3, 3);
        $store->save($key, 10.0);
        $this->loseOne();
        self::assertSame(2, $this->held());
        self::assertFalse($store->exists($key));
        self::thrown(SemaphoreExpiredException::class, static fn () => $store->putOffExpiration($key, 10.0));
        self::assertSame(0, $this->held());
        $store->save($key, 10.0);
        $this->loseOne();
        $store->save($other = new Key('seats', 3), 10.0);
        self::thrown(SemaphoreAcquiringException::class, static fn () => $store->save($key, 10.0));
        self::assertSame(1, $this->held());
        self::assertTrue($store->exists($other));
    }

    public function testTheSmallestTtlIsALimit(): void
    {
        $store = $this->semaphores();
        foreach ([0.0, 1e-9] as $ttl) {
            $key = new Key('seats', 1);
            $store->save($key, $ttl);
            $this->until(static fn (): bool => !$store->exists($key));
        }
        foreach ([-1.0, NAN] as $ttl) {
            self::thrown(InvalidArgumentException::class, static fn () => $store->save(new Key('seats', 1), $ttl));
            self::thrown(
                InvalidArgumentException::class,
                static fn () => $store->putOffExpiration(new Key('seats', 1), $ttl),
            );
        }
    }

    public function testALimitThatChanges(): void
    {
        $store = $this->semaphores();
        $store->save(new Key('seats', 2), 10.0);
        $store->save(new Key('seats', 2), 10.0);
        $store->save($third = new Key('seats', 3), 10.0);
        $store->delete($third);
        self::thrown(SemaphoreAcquiringException::class, static fn () => $store->save(new Key('seats', 2), 10.0));
    }

    public function testByTheFactory(): void
    {
        $factory = new SemaphoreFactory($this->semaphores());
        $one = $factory->createSemaphore('seats', 2);
        $other = $factory->createSemaphore('seats', 2, 2);
        self::assertTrue($one->acquire());
        self::assertFalse($other->acquire());
        $one->refresh(20.0);
        self::assertTrue($one->isAcquired());
        $one->release();
        self::assertTrue($other->acquire());
        unset($other);
        self::assertTrue($one->acquire(), 'released with its object');
    }

    public function testNoServerIsNoRefusal(): void
    {
        $store = $this->semaphores();
        $key = new Key('seats', 2);
        $store->save($key, 10.0);
        $this->server->kill();
        $this->assertFails($store, $key);
    }

    /** @dataProvider answers */
    public function testWhatIsNoRefusal(string $answer): void
    {
        $fake = new Worker(__DIR__ . '/fake_server.php', [$answer]);
        $store = $this->semaphores();
        $key = new Key('seats', 2, 2);
        $store->save($key, 10.0);
        $this->assertFails(new ElockSemaphoreStore(new Client('tcp://127.0.0.1:' . $fake->hear())), $key);
    }

    /** @return iterable<string, array{string}> */
    public static function answers(): iterable
    {
        return StoreTest::answers();
    }

    public function testAFullServerIsNoRefusalAndKeepsNothing(): void
    {
        $this->server = Server::start('--max-locks', '2');
        $store = $this->semaphores();
        self::thrown(RuntimeException::class, static fn () => $store->save(new Key('seats', 5, 4), 10.0));
        self::assertSame(0, $this->held());
    }

    public function testAKeyOfAnotherProcess(): void
    {
        [$one, $other] = [$this->worker(), $this->worker()];
        $one->ask('semaphore seats 3,2');
        self::assertSame('ok', $one->ask('take seats 100'));
        $key = $one->ask('export seats');
        $one->kill();
        $other->ask('semaphore seats 3,2');
        self::assertSame('SemaphoreAcquiringException', $other->ask('take seats 100'));
        self::assertSame('ok', $other->ask("import seats $key"));
        self::assertSame('true', $other->ask('exists seats'));
        self::assertSame('ok', $other->ask('putOffExpiration seats 100'));
        self::assertSame('ok', $other->ask('delete seats'));
        self::assertSame(0, $this->held());
    }

    public function testAKilledHoldersSlotsEndWithTheirLease(): void
    {
        $killed = $this->worker();
        $killed->ask('semaphore seats 2,2');
        self::assertSame('ok', $killed->ask('take seats 0.3'));
        $killed->kill();
        $this->until(fn (): bool => $this->held() === 0);
        $this->semaphores()->save(new Key('seats', 2, 2), 10.0);
    }

    public function testARestart(): void
    {
        $store = $this->semaphores();
        $key = new Key('seats', 3, 2);
        $store->save($key, 10.0);
        $this->server->kill();
        $this->server->run();
        self::assertFalse($store->exists($key), 'without a store, it is lost');
        self::thrown(SemaphoreExpiredException::class, static fn () => $store->putOffExpiration($key, 10.0));

        $this->server = Server::startWithStore();
        $store = $this->semaphores();
        $store->save($key, 10.0);
        $this->server->kill();
        $this->server->run();
        self::assertTrue($store->exists($key));
        self::thrown(SemaphoreAcquiringException::class, static fn () => $store->save(new Key('seats', 3, 2), 10.0));
        $store->putOffExpiration($key, 20.0);
        $store->delete($key);
        self::assertSame(0, $this->held());
    }

    public function testNeverMoreThanTheLimitOverProcesses(): void
    {
        $limit = 4;
        $file = "{$this->server->directory}/weight";
        file_put_contents($file, '0');
        $workers = [];
        foreach ([1, 1, 2, 3, 4] as $weight) {
            $arguments = [$this->server->unix(), $file, (string)$limit, (string)$weight, '15'];
            $workers[] = $worker = new Worker(__DIR__ . '/weighing.php', $arguments);
            $worker->tell('go');
        }
        foreach ($workers as $worker) {
            self::assertSame('done', $worker->hear());
        }
        self::assertSame('0', file_get_contents($file));
        self::assertSame(0, $this->held());
    }

    private function assertFails(ElockSemaphoreStore $store, Key $key): void
    {
        self::thrown(RuntimeException::class, static fn () => $store->save($key, 10.0));
        self::thrown(RuntimeException::class, static fn () => $store->delete($key));
        self::thrown(RuntimeException::class, static fn () => $store->exists($key));
        self::thrown(RuntimeException::class, static fn () => $store->putOffExpiration($key, 10.0));
    }

    private function semaphores(): ElockSemaphoreStore
    {
        return new ElockSemaphoreStore(new Client($this->server->tcp()));
    }

    /** How many slots are held. */
    private function held(): int
    {
        return $this->seats()['holders_in_all'] ?? 0;
    }

    private function leaseLeft(): float
    {
        return min(array_column($this->seats()['holders'], 'lease_left_ms')) / 1000.0;
    }

    /** One slot of those that are held ends, as by its lease. */
    private function loseOne(): void
    {
        $client = new Client($this->server->tcp());
        $client->owner($this->seats()['holders'][1]['owner'])->unlock('seats');
    }

    /** @return array<string, mixed> */
    private function seats(): array
    {
        foreach ((new Client($this->server->tcp()))->locks('seats') as $lock) {
            return $lock;
        }
        return [];
    }
}
