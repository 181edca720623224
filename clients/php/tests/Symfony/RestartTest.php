<?php

declare(strict_types=1);

namespace Elock\Tests\Symfony;

use Elock\Client;
use Elock\Options;
use Elock\Symfony\ElockStore;
use Elock\Tests\Support\Proxy;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Worker;
use Psr\Log\AbstractLogger;
use Symfony\Component\Lock\Exception\LockConflictedException;
use Symfony\Component\Lock\Key;

/** The server ends in the middle, and comes back. */
final class RestartTest extends SymfonyTestCase
{
    /** @dataProvider ends */
    public function testWithAStoreTheLockIsStillHeld(string $end): void
    {
        $this->server = Server::startWithStore();
        $store = $this->store();
        [$writer, $reader] = [new Key('report'), new Key('page')];
        $store->save($writer);
        $store->saveRead($reader);
        $token = $store->token($writer);
        $this->server->$end();
        $this->server->run();
        self::assertSame($token, $store->token($writer));
        self::assertTrue($store->exists($reader));
        self::thrown(LockConflictedException::class, static fn () => $store->save(new Key('report')));
        self::thrown(LockConflictedException::class, static fn () => $store->save(new Key('page')));
        $store->putOffExpiration($writer, 100.0);
        $store->save($writer);
        $store->save($reader);
        $store->delete($writer);
        $store->save($other = new Key('report'));
        self::assertGreaterThan($token, $store->token($other));
    }

    /** @dataProvider ends */
    public function testWithoutAStoreItIsLostAndThatIsTold(string $end): void
    {
        $store = $this->store();
        $key = new Key('report');
        $store->save($key);
        $this->server->$end();
        $this->server->run();
        self::assertFalse($store->exists($key));
        self::thrown(LockConflictedException::class, static fn () => $store->putOffExpiration($key, 10.0));
        $store->delete($key);
        $store->save($key);
        self::assertTrue($store->exists($key));
    }

    /** @dataProvider ends */
    public function testAWaiterGoesOnWaiting(string $end): void
    {
        $this->server = Server::startWithStore();
        $store = $this->store();
        $key = new Key('report');
        $store->save($key);
        $worker = $this->worker();
        $worker->tell('waitAndSave report');
        $this->untilWaiting('report', 1);
        $this->server->$end();
        $this->server->run();
        $this->untilWaiting('report', 1);
        $store->delete($key);
        self::assertSame('ok', $worker->hear());
        self::assertSame('true', $worker->ask('exists report'));
    }

    /** Whoever waits for a lock, waits for its server, too. */
    public function testAServerThatIsAwayWhenTheWaitBegins(): void
    {
        $proxy = new Proxy($this->server);
        $logger = new class ($proxy) extends AbstractLogger {
            public function __construct(private readonly Proxy $proxy)
            {
            }

            public function log($level, $message, array $context = []): void
            {
                str_contains((string)$message, 'asking again') && $this->proxy->tell('allow');
            }
        };
        $store = new ElockStore(new Client($proxy->address(), new Options(logger: $logger)));
        $proxy->tell('block');
        $store->waitAndSave($key = new Key('report'));
        self::assertTrue($store->exists($key));
        $store->delete($key);
    }

    /** A word that was made for the lock: nobody else can have got it, so it is no doubt whose the grant is. */
    public function testTheGrantIsLostOnItsWay(): void
    {
        $proxy = new Proxy($this->server);
        $worker = new Worker(__DIR__ . '/worker.php', [$proxy->address()]);
        $store = $this->store();
        $store->save($key = new Key('report'));
        $worker->tell('waitAndSave report');
        $this->untilWaiting('report', 1);
        $proxy->tell('lose 1');
        $store->delete($key);
        self::assertSame('ok', $worker->hear());
        self::assertSame('true', $worker->ask('exists report'));
    }

    /** @return iterable<string, array{string}> */
    public static function ends(): iterable
    {
        yield 'stopped' => ['stop'];
        yield 'killed' => ['kill'];
    }
}
