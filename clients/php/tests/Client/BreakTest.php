<?php

declare(strict_types=1);

namespace Elock\Tests\Client;

use Elock\Client;
use Elock\Exception\ConnectionException;
use Elock\Exception\ElockException;
use Elock\Exception\LostException;
use Elock\Exception\RefusedException;
use Elock\Options;
use Elock\Tests\Support\Memory;
use Elock\Tests\Support\Proxy;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Wait;
use Elock\Tests\Support\Worker;
use PHPUnit\Framework\TestCase;

/**
 * Connections that break, with the server there all the time.
 */
final class BreakTest extends TestCase
{
    private Server $server;
    private Proxy $proxy;
    private Memory $log;
    private Client $client;
    private Client $observer;

    protected function setUp(): void
    {
        $this->server = Server::start();
        $this->proxy = new Proxy($this->server);
        $this->log = new Memory();
        $this->client = Client::connect($this->proxy->address(), new Options(logger: $this->log));
        $this->observer = Client::connect($this->server->unix());
    }

    public function testTheSessionGoesOn(): void
    {
        $lock = $this->client->lock('k');
        foreach (['isHeld', 'token', 'expire', 'promote'] as $act) {
            $this->proxy->tell('cut');
            $act === 'expire' ? $lock->expire(60.0) : $lock->$act();
            self::assertTrue($lock->isHeld());
        }
        $this->proxy->tell('cut');
        $second = $this->client->lock('second');
        self::assertSame($lock->token(), $this->observer->holder('k')?->token);
        $this->proxy->tell('cut');
        self::assertTrue($lock->release() && $second->release());
        self::assertContains('info elock: the session goes on, with what it holds', $this->log->lines);
        self::assertSame([], preg_grep('/^warning/', $this->log->lines));
    }

    /** A connection that rested is looked at before it is used: so a break costs no doubt about a grant. */
    public function testABreakWhileItRests(): void
    {
        $owner = $this->client->owner('job');
        $owner->lock('k', 0.0, 600.0);
        $this->proxy->tell('cut');
        usleep(1_100_000);
        $this->expectException(RefusedException::class);
        $owner->lock('k', 0.0, 600.0);
    }

    public function testWhileThereIsNoWayToTheServer(): void
    {
        $lock = $this->client->lock('k');
        $owned = $this->client->owner()->lock('owned', 0.0, 60.0);
        $this->proxy->tell('block');
        $acts = [$lock->isHeld(...), $lock->release(...), $owned->isHeld(...), $owned->release(...)];
        array_push($acts, fn () => $this->client->lock('l'), fn () => $this->client->owner()->lock('l', 0.1));
        foreach ($acts as $act) {
            try {
                $act();
                self::fail('nobody can know');
            } catch (ConnectionException) {
                $this->addToAssertionCount(1);
            }
        }
        $this->proxy->tell('allow');
        self::assertTrue($lock->release() && $owned->release());
        self::assertNull($this->client->holder('l'));
    }

    /** Nobody may ask for it again: who could not be told of the release, is told before anything else. */
    public function testAReleaseThatFailedIsOwed(): void
    {
        $client = new Client($this->proxy->address(), new Options(timeout: 0.2));
        $kept = $client->lock('kept');
        $lock = $client->lock('k');
        $this->proxy->tell('block');
        foreach ([fn () => $lock->release(), fn () => $client->unlock('k')] as $release) {
            try {
                $release();
                self::fail('nobody can know');
            } catch (ConnectionException) {
                self::assertNotNull($this->observer->holder('k'));
            }
        }
        $this->proxy->tell('allow');
        self::assertTrue($kept->isHeld());
        self::assertNull($this->observer->holder('k'));
        self::assertFalse($lock->isHeld());
        self::assertTrue($client->lock('k')->release());
    }

    /** A word that was made for the lock: nobody else can have got it. */
    public function testANewOwnersGrantIsNeverLost(): void
    {
        foreach ([0.0, 5.0] as $wait) {
            foreach ([1, 2] as $lost) {
                $client = new Client($this->proxy->address());
                $this->proxy->tell("lose $lost");
                try {
                    $lock = $client->owner()->lock('k', $wait, 600.0);
                    self::assertSame($lock->token(), $this->observer->holder('k')?->token);
                    self::assertTrue($lock->release());
                } catch (ConnectionException) {
                    self::assertSame([0.0, 2], [$wait, $lost]);
                    self::assertNull($client->holder('k'), 'it is given back first');
                }
                $this->proxy->tell('lose 0');
                self::assertNull($this->observer->holder('k'));
            }
        }
    }

    public function testANewOwnersGrantIsGivenBackAtTheEnd(): void
    {
        $client = new Client($this->proxy->address());
        $this->proxy->tell('doom 1');
        try {
            $client->owner()->lock('k', 0.0, 600.0);
            self::fail('there is no way to ask');
        } catch (ConnectionException) {
            self::assertNotNull($this->observer->holder('k'));
        }
        $this->proxy->tell('allow');
        $client->close();
        self::assertNull($this->observer->holder('k'));
    }

    public function testASessionThatIsOverSaysSo(): void
    {
        $this->client->setGrace(0.0);
        $lock = $this->client->lock('k');
        $this->client->lock('l');
        $this->proxy->tell('block');
        Wait::until(fn (): bool => $this->observer->holder('k') === null, 'the lock ends with the connection');
        $this->proxy->tell('allow');
        self::assertFalse($lock->isHeld());
        self::assertFalse($lock->release());
        self::assertSame(
            ['warning elock: the session is over; what it held is lost: 2 locks'],
            array_values(preg_grep('/^warning/', $this->log->lines) ?: []),
        );
        // The same key by another lock is not the first one's to release.
        $again = $this->client->lock('k');
        self::assertFalse($lock->release());
        self::assertTrue($again->isHeld());
    }

    public function testTheGrantOfASessionIsLostOnItsWay(): void
    {
        $first = $this->client->lock('first');
        $this->proxy->tell('lose 1');
        $lock = $this->client->lock('k');
        self::assertSame($lock->token(), $this->observer->holder('k')?->token);
        $this->proxy->tell('lose 1');
        [$a, $b] = $this->client->lockAll(['a', 'b']);
        self::assertTrue($a->isHeld() && $b->isHeld() && $lock->isHeld() && $first->isHeld());
    }

    /** A session whose id nobody knows would keep the lock until its grace period is over. */
    public function testTheFirstAnswerIsLost(): void
    {
        foreach ([0.0, 5.0] as $wait) {
            foreach ([1, 2] as $lost) {
                $client = new Client($this->proxy->address());
                $this->proxy->tell("lose $lost");
                try {
                    self::assertTrue($client->lock('k', $wait)->release());
                } catch (ConnectionException) {
                    self::assertSame(0.0, $wait);
                    self::assertNull($client->holder('k'), 'it is given back first');
                }
                $this->proxy->tell('lose 0');
                self::assertNull($this->observer->holder('k'));
            }
        }
    }

    /** It was granted by the first attempt, and there was no way to ask again until the wait was over. */
    public function testAGrantThatNobodyHeardOfIsGivenBack(): void
    {
        $waiter = new Worker(__DIR__ . '/scripts/holder.php', [$this->proxy->address()]);
        $first = $waiter->ask('lock first 0');
        $this->proxy->tell('doom 1');
        self::assertStringContainsString('ConnectionException', (string)$waiter->ask('lock k 0.3'));
        self::assertNotNull($this->observer->holder('k'));
        $this->proxy->tell('allow');
        self::assertSame($first, $waiter->ask('held first'));
        self::assertNull($this->observer->holder('k'));
    }

    /** As one whose disk is full. What was granted, as nobody heard, is given back. */
    public function testALoggerThatThrows(): void
    {
        $this->log->isFull = true;
        $first = $this->client->lock('first');
        $this->proxy->tell('lose 1');
        try {
            $this->client->lock('k', 20.0);
            self::fail('it goes on');
        } catch (\UnexpectedValueException) {
        }
        $this->log->isFull = false;
        self::assertTrue($first->isHeld());
        self::assertNull($this->observer->holder('k'));
    }

    public function testTheAnswerToAReleaseIsLost(): void
    {
        foreach ([$this->client, $this->client->owner()] as $holder) {
            $holder->lock('k', 0.0, 60.0);
            $this->proxy->tell('lose 1');
            self::assertFalse($holder->unlock('k'), 'nobody can know whether it was held until then');
            self::assertNull($this->observer->holder('k'));
        }
    }

    /** Asked for again, it would free the next one's lock. */
    public function testTheAnswerToABreakIsLost(): void
    {
        $this->observer->owner('first')->lock('k', 0.0, 60.0);
        $waiter = new Worker(__DIR__ . '/scripts/holder.php', [$this->server->tcp()]);
        $waiter->tell('own k second 20 60');
        Wait::forWaiters($this->observer, 'k');
        $this->client->stats();
        $this->proxy->tell('lose 1');
        try {
            $this->client->break('k');
            self::fail('nobody can know');
        } catch (ConnectionException) {
        }
        self::assertIsNumeric($waiter->hear());
        self::assertSame('second', $this->observer->holder('k')?->owner);
        // Where the connection is known to be gone before anything is sent, it is sent by another.
        $this->proxy->tell('cut');
        $this->client->close();
        self::assertTrue($this->client->break('k'));
    }

    /** Without a wait, nothing tells it from an earlier grant of the same word. */
    public function testTheGrantOfAnOwnerIsLostOnItsWay(): void
    {
        $owner = $this->client->owner('job');
        $this->proxy->tell('lose 1');
        try {
            $owner->lock('k', 0.0, 60.0);
            self::fail('it may be an earlier one');
        } catch (ConnectionException) {
            self::assertTrue($owner->held('k')->release(), 'the application can find out');
        }
    }

    public function testTheGrantOfAnOwnerThatWaitedIsLostOnItsWay(): void
    {
        $held = $this->observer->lock('k');
        $waiter = $this->waiter('own k job 30 60');
        $this->proxy->tell('lose 1');
        self::assertTrue($held->release());
        self::assertStringContainsString('ConnectionException', (string)$waiter->hear());
        self::assertTrue($this->observer->owner('job')->held('k')->release(), 'the application can find out');
    }

    /** Two processes wait by one word. Whose connection broke may not take the other one's grant for its own. */
    public function testTheGrantOfAnotherProcessByTheSameWord(): void
    {
        $held = $this->observer->lock('k');
        $cut = $this->waiter('own k job 30 60');
        $other = new Worker(__DIR__ . '/scripts/holder.php', [$this->server->tcp()]);
        $this->proxy->tell('block');
        Wait::until(fn (): bool => $this->observer->info()['waiters'] === '0', 'it has left the queue');
        $other->tell('own k job 30 60');
        Wait::forWaiters($this->observer, 'k');
        self::assertTrue($held->release());
        self::assertIsNumeric($other->hear());
        $this->proxy->tell('allow');
        self::assertStringContainsString('ConnectionException', (string)$cut->hear());
    }

    /** Nor may a lock that is late release, renew or change what its word got by a later grant. */
    public function testALaterGrantOfTheSameWord(): void
    {
        $late = $this->client->owner('job')->lock('k', 0.0, 600.0);
        $this->observer->break('k');
        $next = $this->observer->owner('job')->lock('k', 0.0, 600.0);
        foreach ([fn () => $late->expire(1.0), $late->promote(...), fn () => $late->demote('v')] as $act) {
            try {
                $act();
                self::fail('it is lost');
            } catch (LostException) {
            }
        }
        self::assertFalse($late->isHeld() || $late->release());
        self::assertTrue($next->isHeld());
    }

    /** An earlier grant of the same word is another's, whatever broke. */
    public function testAnEarlierGrantOfTheSameOwner(): void
    {
        $earlier = $this->observer->owner('job')->lock('k', 0.0, 600.0);
        $waiter = $this->waiter('own k job 30 60');
        foreach ([1, 2] as $_) {
            // What the server has said until now is on its way to the waiter, behind the proxy.
            $this->client->stats();
            $sessions = $this->numbers();
            $this->proxy->tell('cut');
            Wait::until(fn (): bool => $this->numbers() !== $sessions, 'it connects again');
            Wait::forWaiters($this->observer, 'k');
            self::assertSame($earlier->token(), $this->observer->holder('k')?->token);
        }
        self::assertTrue($earlier->release());
        self::assertGreaterThan($earlier->token(), (int)$waiter->hear());

        $this->observer->break('k');
        $this->observer->owner('job')->lock('k', 0.0, 600.0);
        $this->proxy->tell('lose 1');
        $this->expectException(ElockException::class);
        $this->client->owner('job')->lock('k', 0.0, 600.0);
    }

    public function testAWaiterGoesOnWaiting(): void
    {
        foreach (['lock k 30', 'own k job 30 60'] as $request) {
            $held = $this->observer->lock('k');
            $waiter = $this->waiter($request);
            foreach ([1, 2, 3] as $_) {
                $sessions = $this->numbers();
                $this->proxy->tell('cut');
                Wait::until(fn (): bool => $this->numbers() !== $sessions, 'it connects again');
                Wait::forWaiters($this->observer, 'k');
            }
            self::assertTrue($held->release());
            self::assertSame($this->observer->nextHolder('k', null, 30.0)?->token, (int)$waiter->hear());
            $waiter->finish();
            $this->observer->break('k');
        }
    }

    /** The wait is one, over all its attempts. */
    public function testAWaitEndsAlsoOverBreaks(): void
    {
        $this->observer->lock('k');
        $waiter = new Worker(__DIR__ . '/scripts/holder.php', [$this->proxy->address()]);
        $waiter->tell('lock k 0.5');
        Wait::forWaiters($this->observer, 'k');
        $this->proxy->tell('cut');
        self::assertStringContainsString('Refused', (string)$waiter->hear());
        $waiter->tell('lock k 0.5');
        Wait::forWaiters($this->observer, 'k');
        $this->proxy->tell('block');
        self::assertStringContainsString('ConnectionException', (string)$waiter->hear());
        $this->proxy->tell('allow');
        $this->expectException(RefusedException::class);
        $this->client->lock('k');
    }

    /** Whatever breaks at whatever moment, each lock is one's own once, and the client can go on. */
    public function testBreaksAtAnyMoment(): void
    {
        $this->proxy->tell('every 150');
        $rounds = 60 * (int)(getenv('ELOCK_ROUNDS') ?: 1);
        for ($round = 0; $round < $rounds; $round++) {
            $owner = $this->client->owner();
            foreach ([$this->client, $owner] as $holder) {
                try {
                    $wait = $round % 3 === 0 ? 0.0 : 5.0;
                    $lock = $holder->lock('k', $wait, 600.0);
                    self::assertSame($lock->token(), $this->observer->holder('k')?->token);
                } catch (ConnectionException | RefusedException $broken) {
                    // An owner's lock may be held then; a session's may be one that its broken connection has.
                    $this->addToAssertionCount(1);
                }
                for ($isReleased = false; !$isReleased;) {
                    try {
                        $holder->unlock('k');
                        $isReleased = true;
                    } catch (ConnectionException) {
                    }
                }
            }
            self::assertNull($this->observer->holder('k'), "round $round");
        }
    }

    private function waiter(string $request): Worker
    {
        $waiter = new Worker(__DIR__ . '/scripts/holder.php', [$this->proxy->address()]);
        $waiter->tell($request);
        Wait::forWaiters($this->observer, 'k');
        return $waiter;
    }

    /** @return list<string> of the sessions that wait for `k` */
    private function numbers(): array
    {
        preg_match_all('/^REQUEST (#\d+) k .*?waited_ms=/m', implode("\n", $this->observer->debug()), $found);
        $addresses = [];
        foreach ($this->observer->sessions() as $session) {
            in_array("#{$session['session']}", $found[1], true) && $addresses[] = (string)$session['peer'];
        }
        return $addresses;
    }
}
