<?php

declare(strict_types=1);

namespace Elock\Tests\Symfony;

use Elock\Client;
use Elock\Symfony\ElockStore;
use Elock\Tests\Support\Server;
use Symfony\Component\Lock\Exception\LockConflictedException;
use Symfony\Component\Lock\Key;
use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\Store\CombinedStore;
use Symfony\Component\Lock\Strategy\ConsensusStrategy;
use Symfony\Component\Lock\Strategy\StrategyInterface;
use Symfony\Component\Lock\Strategy\UnanimousStrategy;

/** One lock at three servers, of which some are down. */
final class CombinedStoreTest extends SymfonyTestCase
{
    /** @var list<Server> */
    private array $servers;

    protected function setUp(): void
    {
        parent::setUp();
        $this->servers = [$this->server, Server::start(), Server::start()];
    }

    /** @dataProvider figures */
    public function testAcquireReleaseAndAcquireAgain(string $strategy, int $up, bool $isHad): void
    {
        $store = $this->combined(new $strategy());
        for ($number = $up; $number < 3; $number++) {
            $this->servers[$number]->kill();
        }
        [$one, $other] = [new Key('report'), new Key('report')];
        if (!$isHad) {
            foreach (['save', 'saveRead'] as $method) {
                self::thrown(LockConflictedException::class, static fn () => $store->$method($one));
                self::assertFalse($store->exists($one));
            }
            $this->assertFree($up);
            return;
        }
        foreach (['save', 'saveRead', 'save'] as $method) {
            $store->$method($one);
            self::assertTrue($store->exists($one));
            self::thrown(LockConflictedException::class, static fn () => $store->save($other));
            self::assertFalse($store->exists($other));
            self::assertTrue($store->exists($one));
            $store->putOffExpiration($one, 100.0);
            $store->delete($one);
            self::assertFalse($store->exists($one));
            $this->assertFree($up);
            $store->$method($other);
            self::assertTrue($store->exists($other));
            self::thrown(LockConflictedException::class, static fn () => $store->save($one));
            $store->delete($other);
            $this->assertFree($up);
        }
    }

    /** @return iterable<string, array{class-string<StrategyInterface>, int, bool}> */
    public static function figures(): iterable
    {
        yield 'consensus, three up' => [ConsensusStrategy::class, 3, true];
        yield 'consensus, two up' => [ConsensusStrategy::class, 2, true];
        yield 'consensus, one up' => [ConsensusStrategy::class, 1, false];
        yield 'unanimous, three up' => [UnanimousStrategy::class, 3, true];
        yield 'unanimous, two up' => [UnanimousStrategy::class, 2, false];
        yield 'unanimous, one up' => [UnanimousStrategy::class, 1, false];
    }

    public function testPromotionAndDemotion(): void
    {
        $store = $this->combined(new ConsensusStrategy());
        [$one, $other] = [new Key('page'), new Key('page')];
        $store->saveRead($one);
        $store->saveRead($other);
        $store->delete($other);
        $store->save($one);
        self::thrown(LockConflictedException::class, static fn () => $store->saveRead($other));
        $store->saveRead($one);
        $store->saveRead($other);
        self::assertSame([true, true], [$store->exists($one), $store->exists($other)]);
        $store->delete($one);
        $store->delete($other);
        $this->assertFree(3);
    }

    public function testAKeyOfAnotherProcessAtEachServer(): void
    {
        $store = $this->combined(new ConsensusStrategy());
        $key = new Key('report');
        $store->save($key);
        $copy = unserialize(serialize($key));
        unset($store, $key);
        $store = $this->combined(new ConsensusStrategy());
        self::assertTrue($store->exists($copy));
        $store->putOffExpiration($copy, 100.0);
        $store->delete($copy);
        $this->assertFree(3);
    }

    public function testAServerThatComesBackIsReleasedToo(): void
    {
        $store = $this->combined(new ConsensusStrategy());
        $key = new Key('report');
        $this->servers[2]->kill();
        $store->save($key);
        $this->servers[2]->run();
        $store->save($key);
        $this->servers[0]->kill();
        self::assertTrue($store->exists($key), 'two of three have it');
        $store->delete($key);
        $this->servers[0]->run();
        $this->assertFree(3);
    }

    public function testWaitsByAsking(): void
    {
        $factory = new LockFactory($this->combined(new ConsensusStrategy()));
        $lock = $factory->createLock('report', 0.3);
        self::assertTrue($lock->acquire());
        self::assertTrue($factory->createLock('report')->acquire(true));
    }

    private function combined(StrategyInterface $strategy): CombinedStore
    {
        return new CombinedStore(array_map(
            static fn (Server $server): ElockStore => new ElockStore(new Client($server->tcp())),
            $this->servers,
        ), $strategy);
    }

    /** Nobody holds anything at the first servers. */
    private function assertFree(int $servers): void
    {
        foreach (array_slice($this->servers, 0, $servers) as $server) {
            self::assertSame([], iterator_to_array((new Client($server->tcp()))->locks(), false));
        }
    }
}
