<?php

declare(strict_types=1);

namespace Elock\Tests\Client;

use Elock\Client;
use Elock\Exception\InvalidRequestException;
use Elock\Exception\LostException;
use Elock\Exception\RefusedException;
use Elock\Naming;
use Elock\Options;
use Elock\Request;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Wait;
use Elock\Tests\Support\Worker;
use PHPUnit\Framework\TestCase;

final class CommandsTest extends TestCase
{
    private static Server $server;
    private Client $client;
    private Client $other;

    public static function setUpBeforeClass(): void
    {
        self::$server = Server::start();
    }

    protected function setUp(): void
    {
        $this->client = Client::connect(self::$server->tcp(), new Options(name: 'first of all'));
        $this->other = Client::connect(self::$server->unix());
    }

    protected function tearDown(): void
    {
        $this->client->close();
        $this->other->close();
    }

    /** What the server can do, this package can ask for. */
    public function testEachCommandHasItsRequest(): void
    {
        foreach ($this->client->help() as $line) {
            $command = (string)strtok($line, ' ');
            $method = lcfirst(str_replace('_', '', ucwords($command, '_')));
            self::assertTrue(method_exists(Request::class, $method), "no Request::$method() for: $line");
        }
    }

    public function testLocksOfEachKind(): void
    {
        foreach ([$this->client, $this->client->owner()] as $holder) {
            $lock = $holder->lock('k', 0.0, 60.0);
            self::assertTrue($lock->isHeld());
            self::assertSame('k', $lock->key());
            self::assertSame($lock->token(), $holder->held('k')->token());
            self::assertGreaterThan(0, $this->locked('k')['holders'][0]['lease_left_ms']);
            $lock->expire(null);
            self::assertArrayNotHasKey('lease_left_ms', $this->locked('k')['holders'][0]);
            $lock->demote('r');
            $reader = $this->other->lockValue('k', 'r');
            self::assertRefused('"k" is shared by others (409 Unavailable)', $lock->promote(...));
            self::assertRefused(
                '"k" is shared by another value, or is a slot (409 Unavailable)',
                static fn () => $lock->demote('another'),
            );
            self::assertTrue($reader->release());
            $lock->promote();
            self::assertRefused('"k" is held by others (409 Unavailable)', fn () => $this->other->lockValue('k', 'r'));
            self::assertTrue($lock->release());
            self::assertFalse($lock->release());
            self::assertFalse($lock->isHeld());
            self::assertFalse($holder->unlock('k'));

            $slots = [$holder->lockSlot('s', 2), $this->other->lockSlot('s', 2)];
            self::assertRefused('"s" is held by others (409 Unavailable)', fn () => $this->third()->lockSlot('s', 2));
            self::assertTrue($slots[0]->release() && $slots[1]->release());
        }
    }

    public function testALeaseEnds(): void
    {
        $lock = $this->client->lock('lease');
        $lock->expire(0.001);
        $next = $this->other->lock('lease', 20.0);
        self::assertGreaterThan($lock->token(), $next->token());
        self::assertFalse($lock->isHeld());
        try {
            $lock->expire(1.0);
            self::fail('it is over');
        } catch (LostException $lost) {
            self::assertSame('the lease of "lease" has ended (403 expired)', $lost->getMessage());
        }
        self::assertFalse($lock->release());
        self::assertTrue($next->isHeld());
    }

    public function testAllOrNone(): void
    {
        $held = $this->other->lock('to');
        self::assertRefused(
            'others hold one of these locks (409 Unavailable: to)',
            fn () => $this->client->lockAll(['from', 'to']),
        );
        self::assertNull($this->client->holder('from'));
        $held->release();
        [$to, $from] = $this->client->lockAll(['to', 'from', 'to'], 1.0);
        self::assertSame(['to', 'from'], [$to->key(), $from->key()]);
        self::assertRefused(
            '"from" is held already, by another lock of this connection',
            fn () => $this->client->lockAll(['else', 'from']),
        );
        // One of them is lost; the other one is not.
        $to->expire(0.001);
        $this->other->lock('to', 20.0)->release();
        self::assertFalse($to->isHeld());
        self::assertFalse($to->release());
        self::assertTrue($from->isHeld());
        self::assertTrue($from->release());
        self::assertSame([], $this->client->lockAll([]));
    }

    public function testUnlockAllAndBreak(): void
    {
        $locks = [$this->client->lock('x'), $this->client->lockValue('y', 'v')];
        $owned = $this->client->owner('job 7')->lock('z');
        try {
            $this->other->break('x');
            self::fail('a session holds it');
        } catch (LostException $lost) {
            self::assertSame('"x" is held by others (403 not_yours)', $lost->getMessage());
        }
        $this->client->unlockAll();
        self::assertSame([false, false], [$locks[0]->isHeld(), $locks[1]->release()]);
        self::assertTrue($owned->isHeld());
        self::assertTrue($this->other->break('z'));
        self::assertFalse($this->other->break('z'));
        self::assertFalse($owned->release());
    }

    public function testWhatOperatorsDo(): void
    {
        $lock = $this->client->lock('k');
        self::assertTrue($this->other->forceUnlock('k'));
        self::assertFalse($this->other->forceUnlock('k'));
        try {
            $lock->expire(5.0);
            self::fail('it was taken');
        } catch (LostException $lost) {
            self::assertSame('an operator has taken "k" (403 revoked)', $lost->getMessage());
        }
        self::assertFalse($lock->isHeld());
        self::assertFalse($lock->release());

        $kept = $this->client->lock('kept');
        $number = $this->other->holder('kept')?->session;
        $this->other->kick("#$number");
        self::assertNull($this->other->holder('kept'));
        self::assertFalse($kept->isHeld());
        try {
            $this->other->kick("#$number");
            self::fail('it is over');
        } catch (LostException $lost) {
            self::assertSame('403 unknown', $lost->getMessage());
        }
        // The next session of the client, which has connected again.
        self::assertTrue($this->client->lock('k')->release());
    }

    public function testWhoHolds(): void
    {
        self::assertNull($this->client->holder('w'));
        $lock = $this->client->owner('job 7')->lock('w');
        $known = $this->other->holder('w');
        self::assertSame(['job 7', null, $lock->token()], [$known?->owner, $known?->session, $known?->token]);
        self::assertEquals($known, $this->other->nextHolder('w', null, 20.0));
        $lock->release();
        self::assertNull($this->other->nextHolder('w', $known, 20.0));
        $lock = $this->client->lock('w');
        self::assertSame($lock->token(), $this->other->nextHolder('w', null, 20.0)?->token);
        self::assertIsInt($this->other->holder('w')?->session);
        self::assertEquals($this->other->holder('w'), $this->other->nextHolder('w', $this->other->holder('w'), 0.01));
        $lock->release();
    }

    public function testListsAndNumbers(): void
    {
        $keys = ['*', '=', 'a\\b', 'a b', "\xFF", ''];
        $locks = array_map(fn (string $key) => $this->client->owner()->lock("$key"), $keys);
        foreach ($keys as $key) {
            $words = array_column(iterator_to_array($this->client->locks($key), false), 'key');
            self::assertNotSame([], $words, "locks with $key");
        }
        self::assertSame('memory', $this->client->info()['store']);
        self::assertSame(count($keys), $this->client->stats()['locks']);
        $names = array_column(iterator_to_array($this->client->sessions(), false), 'name');
        self::assertContains('first%20of%20all', $names);
        self::assertCount(count($keys), preg_grep('/^LOCK /', $this->client->debug()) ?: []);
        [$echo, $unknown] = $this->client->send(Request::echo('a', 'b'), Request::watch(Naming::Encoded->key('a b')));
        self::assertSame('["a","b"]', $echo->text);
        self::assertStringContainsString(' held by @', $unknown->text);
        array_map(static fn ($lock) => self::assertTrue($lock->release()), $locks);
    }

    /** More than the server tells in one answer. */
    public function testLongLists(): void
    {
        $requests = [];
        for ($number = 0; $number < 2500; $number++) {
            $requests[] = Request::lock(Naming::Encoded->key(sprintf('many-%04d', $number)));
        }
        // Far more than the server answers before these answers are read.
        self::assertSame([200], array_values(array_unique(array_column($this->client->send(...$requests), 'code'))));
        $listed = array_column(iterator_to_array($this->other->locks('many-'), false), 'key');
        self::assertCount(2500, $listed);
        self::assertSame('many-2499', end($listed));
        $clients = array_map(fn () => $this->third(), range(1, 1050));
        self::assertGreaterThan(1050, count(iterator_to_array($this->other->sessions(), false)));
        unset($clients);
        $this->client->unlockAll();
    }

    public function testGraceAndResume(): void
    {
        try {
            $this->client->setGrace(1e6);
            self::fail('more than the server takes');
        } catch (InvalidRequestException $long) {
            self::assertSame('400 Timeout too long: at most 86400000 milliseconds', $long->getMessage());
        }
        $this->client->setGrace(60.0);
        $lock = $this->client->lock('resumed');
        $id = $this->client->sessionId();
        self::assertSame($id, $this->client->sessionId());
        $this->other->lock('mine');
        try {
            $this->other->resume($id);
            self::fail('it holds a lock');
        } catch (LostException $lost) {
            self::assertSame('403 holds_locks', $lost->getMessage());
        }
        $this->other->unlock('mine');
        $this->other->resume($id);
        self::assertSame($lock->token(), $this->other->held('resumed')->token());
        try {
            $this->third()->resume('1-00000000000000000000000000000000');
            self::fail('there is none');
        } catch (LostException $lost) {
            self::assertSame('403 unknown', $lost->getMessage());
        }
        self::assertTrue($this->other->unlock('resumed'));
    }

    public function testWaitsInTheQueue(): void
    {
        $lock = $this->client->lock('queue');
        $holders = [];
        foreach ([1, 2, 3] as $number) {
            $holders[$number] = new Worker(__DIR__ . '/scripts/holder.php', [self::$server->tcp()]);
            $holders[$number]->tell('lock queue 30');
            Wait::forWaiters($this->other, 'queue', $number);
        }
        $tokens = [$lock->token()];
        $lock->release();
        foreach ($holders as $holder) {
            $tokens[] = (int)$holder->hear();
            self::assertSame('true', $holder->ask('unlock queue'));
        }
        $sorted = $tokens;
        sort($sorted);
        self::assertSame($sorted, $tokens);
    }

    /** @return array<string, mixed> */
    private function locked(string $key): array
    {
        foreach ($this->other->locks($key) as $lock) {
            return $lock;
        }
        self::fail("$key is not held");
    }

    private function third(): Client
    {
        return Client::connect(self::$server->unix());
    }

    /** @param callable(): mixed $act */
    private static function assertRefused(string $message, callable $act): void
    {
        try {
            $act();
        } catch (RefusedException $refused) {
            self::assertSame($message, $refused->getMessage());
            self::assertContains($refused->getCode(), [0, 409]);
            return;
        }
        self::fail("not refused: $message");
    }
}
