<?php

declare(strict_types=1);

namespace Elock\Tests\Client;

use Elock\Client;
use Elock\Exception\ConnectionException;
use Elock\Exception\LostException;
use Elock\Exception\ServerStoppingException;
use Elock\Options;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Wait;
use Elock\Tests\Support\Worker;
use PHPUnit\Framework\TestCase;

/**
 * A server that is stopped, or killed, and runs again.
 */
final class RestartTest extends TestCase
{
    /** @return iterable<string, array{string}> */
    public static function ends(): iterable
    {
        yield 'stopped' => ['stop'];
        yield 'killed' => ['kill'];
    }

    /** @dataProvider ends */
    public function testWithAStoreAllGoesOn(string $end): void
    {
        $server = Server::startWithStore();
        $client = Client::connect($server->tcp());
        $owner = $client->owner('job');
        $locks = [$client->lock('k'), $client->lockValue('v', 'r'), $client->lockSlot('s', 2)];
        array_push($locks, $owner->lock('o', 0.0, 60.0), ...$client->lockAll(['a', 'b']));
        $server->$end();
        $server->run();
        foreach ($locks as $lock) {
            self::assertTrue($lock->isHeld(), $lock->key());
        }
        self::assertSame($locks[3]->token(), $owner->held('o')->token());
        $server->$end();
        $server->run();
        foreach ($locks as $lock) {
            self::assertTrue($lock->release(), $lock->key());
        }
        self::assertSame(0, $client->stats()['locks']);
    }

    /** @dataProvider ends */
    public function testWithoutAStoreTheLossIsSaid(string $end): void
    {
        $server = Server::start();
        $client = Client::connect($server->tcp());
        $acts = ['isHeld', 'release', 'expire'];
        $all = [];
        foreach ($acts as $act) {
            $all[$act] = [$client->lock("s$act"), $client->owner('job')->lock("o$act", 0.0, 60.0)];
        }
        $server->$end();
        $server->run();
        foreach ($all as $act => $locks) {
            foreach ($locks as $lock) {
                try {
                    self::assertFalse($act === 'expire' ? $lock->expire(60.0) : $lock->$act());
                    self::assertNotSame('expire', $act);
                } catch (LostException) {
                    self::assertSame('expire', $act);
                }
            }
        }
        self::assertTrue($client->lock('sisHeld')->isHeld());
        self::assertFalse($all['isHeld'][0]->isHeld(), 'it is another one');
    }

    /** @dataProvider ends */
    public function testAWaiterWaitsOn(string $end): void
    {
        foreach ([true, false] as $hasStore) {
            $server = $hasStore ? Server::startWithStore() : Server::start();
            $observer = Client::connect($server->unix());
            $held = $observer->owner('first')->lock('k', 0.0, 600.0);
            $waiters = [];
            foreach (['lock k 60', 'own k job 60 60', 'own k first 60 60'] as $number => $request) {
                $waiters[] = $waiter = new Worker(__DIR__ . '/scripts/holder.php', [$server->tcp()]);
                $waiter->tell($request);
                Wait::forWaiters($observer, 'k', $number + 1);
            }
            $server->$end();
            $server->run();
            if ($hasStore) {
                Wait::forWaiters($observer, 'k', 3);
                self::assertTrue($held->isHeld(), 'and nobody took it for his own');
                self::assertTrue($held->release());
            }
            // One after the other, in whatever order they came back.
            $tokens = [$held->token()];
            $known = null;
            foreach ($waiters as $_) {
                $known = $observer->nextHolder('k', $known, 60.0) ?? $observer->nextHolder('k', null, 60.0);
                $tokens[] = $known?->token;
                $position = match ($known?->owner) {
                    null => 0,
                    'job' => 1,
                    default => 2,
                };
                self::assertSame((string)$known?->token, $waiters[$position]->hear());
                $free = ['unlock k', 'free k job', 'free k first'][$position];
                self::assertSame('true', $waiters[$position]->ask($free));
            }
            self::assertCount(4, array_unique($tokens));
            // Without a store, tokens go on above by the clock.
            self::assertSame($tokens[0], min($tokens));
        }
    }

    public function testItDoesNotComeBack(): void
    {
        $server = Server::start();
        $client = Client::connect($server->tcp());
        $waiter = new Worker(__DIR__ . '/scripts/holder.php', [$server->tcp()]);
        $client->lock('k');
        $waiter->tell('lock k 0.5');
        Wait::forWaiters(Client::connect($server->unix()), 'k');
        $server->stop();
        self::assertStringContainsString('ConnectionException', (string)$waiter->hear());
        $this->expectException(ConnectionException::class);
        $client->lock('l', 0.1);
    }

    public function testADrainIsWaitedFor(): void
    {
        $server = Server::start();
        $client = Client::connect($server->tcp());
        $waiter = new Worker(__DIR__ . '/scripts/holder.php', [$server->tcp()]);
        $lock = $client->lock('k');
        $client->drain();
        try {
            $client->lock('l');
            self::fail('a new lock');
        } catch (ServerStoppingException $draining) {
            self::assertStringContainsString('Draining', $draining->getMessage());
        }
        $waiter->tell('lock l 60');
        self::assertTrue($lock->isHeld());
        self::assertTrue($lock->release());
        $server->stop();
        $server->run();
        self::assertGreaterThan($lock->token(), (int)$waiter->hear());
    }

    /** A server that is stopping grants nothing, and says so. */
    public function testWhileItStops(): void
    {
        $stopping = new \Elock\Answer(503, 'Shutting down');
        self::assertInstanceOf(ServerStoppingException::class, $stopping->exception());
        $server = Server::startWithStore();
        $client = Client::connect($server->tcp(), new Options(grace: 60.0));
        $lock = $client->lock('k');
        $server->stop();
        try {
            $client->lock('l');
            self::fail('nobody can grant it');
        } catch (ConnectionException | ServerStoppingException) {
        }
        $server->run();
        self::assertTrue($lock->isHeld());
        foreach ($client->sessions() as $session) {
            self::assertSame(60_000, $session['grace_ms']);
        }
    }
}
