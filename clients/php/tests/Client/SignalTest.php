<?php

declare(strict_types=1);

namespace Elock\Tests\Client;

use Elock\Client;
use Elock\Exception\ConnectionException;
use Elock\Exception\LostException;
use Elock\Options;
use Elock\Tests\Support\Proxy;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Wait;
use Elock\Tests\Support\Worker;
use PHPUnit\Framework\TestCase;
use Psr\Log\AbstractLogger;

/**
 * @requires extension pcntl
 */
final class SignalTest extends TestCase
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
        $this->client = Client::connect(self::$server->tcp());
        $this->other = Client::connect(self::$server->unix());
    }

    protected function tearDown(): void
    {
        pcntl_alarm(0);
        pcntl_async_signals(false);
        pcntl_signal(SIGALRM, SIG_DFL);
        pcntl_signal(SIGUSR1, SIG_DFL);
        $this->client->close();
        $this->other->close();
    }

    /** @return iterable<string, array{bool}> */
    public static function modes(): iterable
    {
        yield 'as the client looks for them' => [false];
        yield 'as they come' => [true];
    }

    /**
     * It releases what is waited for; so if it ran at the end of the wait, it would be too late.
     *
     * @dataProvider modes
     */
    public function testAHandlerRunsDuringTheWait(bool $isAsync): void
    {
        $held = $this->other->lock('k');
        pcntl_async_signals($isAsync);
        pcntl_signal(SIGALRM, static function () use ($held): void {
            $held->release();
        });
        pcntl_alarm(1);
        self::assertTrue($this->client->lock('k', 20.0)->release());
    }

    /** Nothing interrupts the wait, then. */
    public function testASignalThatCameJustBefore(): void
    {
        $held = $this->other->lock('k');
        pcntl_signal(SIGALRM, static function () use ($held): void {
            $held->release();
        });
        // Nothing is to be said before the request that waits.
        $this->client->lock('mine');
        posix_kill((int)getmypid(), SIGALRM);
        self::assertTrue($this->client->lock('k', 5.0)->release());
    }

    /** @dataProvider modes */
    public function testAHandlerThatThrowsLeavesTheQueue(bool $isAsync): void
    {
        $held = $this->other->lock('k');
        $mine = $this->client->lock('mine');
        pcntl_async_signals($isAsync);
        pcntl_signal(SIGALRM, static fn () => throw new \DomainException('enough'));
        $acts = [
            fn () => $this->client->lock('k', 60.0),
            fn () => $this->client->owner()->lock('k', 60.0, 60.0),
            fn () => $this->client->lockAll(['j', 'k'], 60.0),
            fn () => $this->client->nextHolder('k', $this->client->holder('k'), 60.0),
        ];
        foreach ($acts as $act) {
            pcntl_alarm(1);
            try {
                $act();
                self::fail('it is held');
            } catch (\DomainException) {
            }
            self::assertSame(0, Wait::waiters($this->other, 'k'));
            self::assertNull($this->client->holder('j'));
            self::assertTrue($mine->isHeld());
        }
        self::assertTrue($held->release());
        self::assertTrue($this->client->lock('k')->release());
        self::assertTrue($mine->release());
    }

    /** @dataProvider modes */
    public function testAHeartbeat(bool $isAsync): void
    {
        $held = $this->other->lock('k');
        $owned = $this->client->owner()->lock('owned', 0.0, 60.0);
        $own = $this->client->lock('own');
        $caught = null;
        pcntl_async_signals($isAsync);
        pcntl_signal(SIGALRM, function () use ($held, $owned, $own, &$caught): void {
            $owned->expire(600.0);
            try {
                $own->expire(600.0);
            } catch (\LogicException $caught) {
            }
            $held->release();
        });
        pcntl_alarm(1);
        $lock = $this->client->lock('k', 20.0);
        self::assertStringContainsString('while another request is under way', (string)$caught?->getMessage());
        self::assertNotInstanceOf(LostException::class, $caught);
        foreach ($this->other->locks('owned') as $listed) {
            self::assertGreaterThan(60_000, $listed['holders'][0]['lease_left_ms']);
        }
        self::assertTrue($own->isHeld());
        self::assertTrue($owned->release() && $own->release() && $lock->release());
    }

    /**
     * Whatever its class: it is not taken for a broken connection of the one that waits.
     *
     * @dataProvider modes
     */
    public function testAHandlerThatThrowsWhatThisPackageThrows(bool $isAsync): void
    {
        $held = $this->other->lock('k');
        $problem = new ConnectionException('of another server');
        pcntl_async_signals($isAsync);
        pcntl_signal(SIGALRM, static fn () => throw $problem);
        $acts = [
            fn () => $this->client->lock('k', 20.0),
            fn () => $this->client->owner()->lock('k', 20.0, 60.0),
            fn () => $this->client->nextHolder('k', $this->client->holder('k'), 20.0),
        ];
        foreach ($acts as $act) {
            pcntl_alarm(1);
            try {
                $act();
                self::fail('it goes on');
            } catch (ConnectionException $caught) {
                self::assertSame($problem, $caught);
            }
            self::assertSame(0, Wait::waiters($this->other, 'k'));
        }
        self::assertTrue($held->release());
    }

    /**
     * The signal comes between two attempts, and the first one was granted the lock, as nobody heard.
     *
     * @dataProvider modes
     */
    public function testASignalBetweenTwoSteps(bool $isAsync): void
    {
        $logger = new class extends AbstractLogger {
            /**
             * @param mixed $level
             * @param string|\Stringable $message
             * @param array<array-key, mixed> $context
             */
            public function log($level, $message, array $context = []): void
            {
                posix_kill((int)getmypid(), SIGUSR1);
            }
        };
        $proxy = new Proxy(self::$server);
        $client = Client::connect($proxy->address(), new Options(logger: $logger));
        $mine = $client->lock('mine');
        pcntl_async_signals($isAsync);
        pcntl_signal(SIGUSR1, static fn () => throw new \DomainException('enough'));
        $proxy->tell('lose 1');
        try {
            $client->lock('k', 20.0);
            self::fail('it goes on');
        } catch (\DomainException) {
        }
        pcntl_signal(SIGUSR1, SIG_IGN);
        self::assertTrue($mine->isHeld());
        self::assertNull($this->other->holder('k'));
        $client->close();
    }

    /** The request under way would be answered for the one session, and its answer be read as the other's. */
    public function testAHandlerThatResumesASession(): void
    {
        $held = $this->other->lock('k');
        $mine = $this->client->lock('mine');
        $id = $this->other->sessionId();
        $caught = null;
        pcntl_signal(SIGALRM, function () use ($held, $id, &$caught): void {
            try {
                $this->client->resume($id);
            } catch (\LogicException $caught) {
            }
            $held->release();
        });
        pcntl_alarm(1);
        self::assertTrue($this->client->lock('k', 20.0)->release());
        self::assertInstanceOf(\LogicException::class, $caught);
        self::assertTrue($mine->release());
    }

    public function testAHandlerThatClosesTheClient(): void
    {
        $held = $this->other->lock('k');
        $this->client->lock('mine');
        pcntl_signal(SIGALRM, fn () => $this->client->close());
        pcntl_alarm(1);
        try {
            $this->client->lock('k', 60.0);
            self::fail('it is held');
        } catch (ConnectionException) {
        }
        self::assertSame(0, Wait::waiters($this->other, 'k'));
        self::assertNull($this->other->holder('mine'));
        self::assertTrue($held->release());
    }

    public function testAHandlerThatClosesTheClientJustAsItIsGranted(): void
    {
        $late = new Worker(__DIR__ . '/scripts/late.php', [self::$server->tcp()]);
        for ($mode = 0; $mode < 2; $mode++) {
            self::assertStringStartsWith('a signal handler closed the client', (string)$late->hear());
            self::assertSame('held: true', $late->hear());
        }
        self::assertSame(0, $late->finish());
    }

    public function testAHandlerThatEndsTheProcess(): void
    {
        $held = $this->other->lock('kept');
        $leaver = new Worker(__DIR__ . '/scripts/leaver.php', [self::$server->tcp()]);
        self::assertSame('ready', $leaver->hear());
        Wait::forWaiters($this->other, 'kept');
        $leaver->signal(SIGUSR1);
        self::assertSame(3, $leaver->finish());
        self::assertSame(0, Wait::waiters($this->other, 'kept'));
        self::assertNull($this->other->holder('left'), 'its locks end with its client');
        self::assertTrue($held->release());
    }

    /** A lock that is granted at the very moment at which the wait is given up is given back. */
    public function testGrantedAndGivenUpAtOnce(): void
    {
        $rounds = 150 * (int)(getenv('ELOCK_ROUNDS') ?: 1);
        $signaller = new Worker(__DIR__ . '/scripts/signaller.php', [self::$server->unix(), (string)getmypid()]);
        $isWaiting = false;
        pcntl_signal(SIGUSR1, static function () use (&$isWaiting): void {
            $isWaiting && throw new \DomainException('enough');
        });
        $holders = [$this->client, $this->client->owner('racer')];
        for ($round = 0; $round < $rounds; $round++) {
            self::assertIsNumeric($signaller->ask('take it'));
            $holder = $holders[$round % 2];
            try {
                $isWaiting = true;
                $signaller->tell('let it go');
                $lock = $holder->lock('race', 20.0, 60.0);
                $isWaiting = false;
                self::assertTrue($lock->release());
            } catch (\DomainException) {
                $isWaiting = false;
            }
            self::assertSame('done', $signaller->hear());
            self::assertNull($this->other->holder('race'), "round $round");
        }
    }
}
