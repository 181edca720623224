<?php

declare(strict_types=1);

namespace Elock\Tests\Client;

use Elock\Client;
use Elock\Options;
use Elock\Tests\Support\Proxy;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Worker;
use PHPUnit\Framework\TestCase;

final class EndTest extends TestCase
{
    private static Server $server;
    private Client $observer;

    public static function setUpBeforeClass(): void
    {
        self::$server = Server::start();
    }

    protected function setUp(): void
    {
        $this->observer = Client::connect(self::$server->unix());
    }

    public function testLocksEndWithTheirClient(): void
    {
        $owned = [];
        foreach ([self::$server->tcp(), self::$server->unix()] as $address) {
            $client = Client::connect($address);
            $lock = $client->lock('session');
            $owned[] = $client->owner()->lock('owner', 0.0, 60.0);
            // A lock of a client alone keeps its session.
            unset($client);
            self::assertTrue($lock->isHeld());
            unset($lock);
            array_pop($owned);
            self::assertNull($this->observer->holder('session'));
            self::assertTrue($this->observer->break('owner'));
        }
        $sessions = iterator_to_array($this->observer->sessions(), false);
        self::assertSame([true], array_unique(array_column($sessions, 'connected')), 'and no session stays behind');
    }

    public function testACloseReleasesAndBeginsAnew(): void
    {
        $client = Client::connect(self::$server->tcp());
        $lock = $client->lock('closed');
        $client->close();
        self::assertNull($this->observer->holder('closed'));
        self::assertFalse($lock->isHeld());
        self::assertFalse($lock->release());
        self::assertTrue($client->lock('closed')->release());
        $client->close();
        $client->close();
    }

    public function testAlsoWhereItsConnectionIsBroken(): void
    {
        $proxy = new Proxy(self::$server);
        $client = Client::connect($proxy->address());
        $client->lock('broken');
        $proxy->tell('cut');
        self::assertNotNull($this->observer->holder('broken'));
        unset($client);
        self::assertNull($this->observer->holder('broken'));
    }

    public function testASessionThatWasHandedOnLivesOn(): void
    {
        $client = Client::connect(self::$server->tcp());
        $token = $client->lock('handed')->token();
        $id = $client->sessionId();
        $client->close();
        self::assertSame($token, $this->observer->holder('handed')?->token);
        $next = Client::connect(self::$server->tcp());
        $next->resume($id);
        self::assertSame($token, $next->held('handed')->token());
        // The first one does not take it back, whatever it does.
        self::assertTrue($client->lock('another')->release());
        self::assertSame($token, $next->held('handed')->token());
        unset($next);
        self::assertNull($this->observer->holder('handed'));
    }

    public function testTheEndOfAProcess(): void
    {
        foreach (['end' => true, 'killed' => false] as $how => $isReleased) {
            $worker = new Worker(__DIR__ . '/scripts/holder.php', [self::$server->tcp()]);
            $token = (int)$worker->ask('lock process 0');
            $how === 'end' ? $worker->tell('end') : $worker->kill();
            $how === 'end' && $worker->finish();
            self::assertSame($isReleased ? null : $token, $this->observer->holder('process')?->token);
        }
    }

    /** A file descriptor that the system's `select` does not know. */
    public function testAProcessWithManyFiles(): void
    {
        $other = new Worker(__DIR__ . '/scripts/holder.php', [self::$server->tcp()]);
        $files = [];
        for ($number = 0; $number < 1100; $number++) {
            $files[] = @fopen('/dev/null', 'r') ?: self::markTestSkipped('not so many files may be open here');
        }
        $client = Client::connect(self::$server->tcp(), new Options(timeout: 2.0));
        $lock = $client->lock('files', 1.0);
        self::assertStringContainsString('Refused', (string)$other->ask('lock files 0'));
        self::assertTrue($lock->release());
        $other->ask('lock files 0');
        $other->tell('unlock files');
        self::assertTrue($client->lock('files', 20.0)->release());
    }

    /** The end of a copy would release what the original holds. */
    public function testNothingIsSerialised(): void
    {
        $client = Client::connect(self::$server->tcp());
        foreach ([$client, $client->lock('kept'), $client->owner()] as $thing) {
            try {
                serialize($thing);
                self::fail('it is a copy');
            } catch (\LogicException $problem) {
                self::assertStringContainsString('cannot be serialised', $problem->getMessage());
            }
        }
    }

    /** Neither requests nor connections leave anything behind. */
    public function testNothingGrows(): void
    {
        $rounds = 1000 * (int)(getenv('ELOCK_ROUNDS') ?: 1);
        $proxy = new Proxy(self::$server);
        $client = Client::connect($proxy->address());
        $measured = [];
        for ($round = 0; $round < 4 * $rounds; $round++) {
            $client->lock("session-$round")->release();
            $client->owner("owner-$round")->lock("k-$round", 0.01, 10.0)->release();
            if ($round % 20 === 0) {
                $proxy->tell('cut');
                $short = new Client(self::$server->tcp());
                $short->lock('short')->release();
                $short->owner()->lock('short')->release();
                unset($short);
            }
            if ($round === $rounds || $round === 4 * $rounds - 1) {
                gc_collect_cycles();
                $measured[] = [memory_get_usage(), count(scandir('/proc/self/fd') ?: [])];
            }
        }
        self::assertSame($measured[0][1], $measured[1][1], 'files');
        self::assertLessThan(200_000, $measured[1][0] - $measured[0][0], 'bytes');
        self::assertLessThan(20, $this->observer->stats()['monitoring'], 'sessions');
    }

    /** Whoever has it can take the session over. */
    public function testDumpsDoNotShowTheSecret(): void
    {
        // Of its own: a session whose id was given on stays behind.
        $server = Server::start();
        $client = Client::connect($server->tcp());
        $lock = $client->lock('k');
        $id = $client->sessionId();
        ob_start();
        var_dump($client, $lock);
        self::assertStringNotContainsString($id, print_r($client, true) . print_r($lock, true) . ob_get_clean());
        $lock->release();
    }
}
