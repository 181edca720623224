<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Elock\Client;
use Elock\Exception\ConnectionException;
use Elock\Exception\ElockException;
use Elock\Exception\LostException;
use Elock\Exception\ServerException;
use Elock\Exception\TimeoutException;
use Elock\Laravel\DeadlockException;
use Elock\Laravel\ElockLock;
use Elock\Laravel\ElockLockProvider;
use Elock\Naming;
use Elock\Options;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Worker;
use Illuminate\Cache\Lock;
use Illuminate\Contracts\Cache\LockTimeoutException;

final class ElockLockTest extends LaravelTestCase
{
    private ElockLockProvider $here;
    private ElockLockProvider $there;

    protected function setUp(): void
    {
        parent::setUp();
        $this->here = self::provider();
        $this->there = self::provider();
    }

    public function testOneAtATime(): void
    {
        $lock = $this->here->lock('a', 60);
        self::assertInstanceOf(Lock::class, $lock);
        self::assertTrue($lock->get());
        self::assertFalse($this->there->lock('a', 60)->get());
        self::assertFalse($this->here->lock('a', 60)->get());
        self::assertTrue($lock->release());
        self::assertTrue($this->there->lock('a', 60)->get());
    }

    public function testNobodyTakesItTwiceNotEvenItsOwner(): void
    {
        self::assertTrue($this->here->lock('a', 60, 'me')->get());
        self::assertFalse($this->here->lock('a', 60, 'me')->get());
        self::assertFalse($this->there->lock('a', 60, 'me')->get());
    }

    public function testAnEndlessLockIsNotGrantedToItsOwnerEither(): void
    {
        $endless = new ElockLockProvider(new Client(self::$server->tcp()), '', 0);
        $lock = $endless->lock('a');
        self::assertTrue($lock->get());
        self::assertFalse($lock->get());
        self::assertNull(self::leaseOf('a'));
    }

    public function testGetRunsItsCallbackAndReleases(): void
    {
        $held = null;
        $result = $this->here->lock('a', 60)->get(static function () use (&$held): string {
            $held = self::seen('a');
            return 'done';
        });
        self::assertSame('done', $result);
        self::assertNotNull($held);
        self::assertNull(self::seen('a'));
    }

    public function testGetRunsNothingWithoutTheLock(): void
    {
        $this->there->lock('a', 60)->get();
        self::assertFalse($this->here->lock('a', 60)->get(static fn () => self::fail('it was run')));
    }

    /** @dataProvider waysToRun */
    public function testWhatTheCallbackThrowsComesOutAndTheLockIsFree(\Closure $run): void
    {
        $thrown = self::thrown(\DomainException::class, fn () => $run($this->here->lock('a', 60), static function () {
            throw new \DomainException('failed');
        }));
        self::assertSame('failed', $thrown->getMessage());
        self::assertNull(self::seen('a'));
    }

    /** @return array<string, array{\Closure}> */
    public static function waysToRun(): array
    {
        return [
            'get' => [static fn (ElockLock $lock, \Closure $callback) => $lock->get($callback)],
            'block' => [static fn (ElockLock $lock, \Closure $callback) => $lock->block(1, $callback)],
        ];
    }

    public function testBlockTakesAFreeLock(): void
    {
        self::assertTrue($this->here->lock('a', 60)->block(1));
        self::assertSame('done', $this->here->lock('b', 60)->block(1, static fn () => 'done'));
        self::assertNotNull(self::seen('a'));
        self::assertNull(self::seen('b'));
    }

    public function testBlockGivesUpAtItsDeadline(): void
    {
        $this->there->lock('a', 60)->get();
        $began = hrtime(true);
        $thrown = self::thrown(LockTimeoutException::class, fn () => $this->here->lock('a', 60)->block(0.3));
        self::assertNotInstanceOf(DeadlockException::class, $thrown);
        self::assertGreaterThanOrEqual(0.3, (hrtime(true) - $began) / 1e9);
        self::assertStringContainsString('"a"', $thrown->getMessage());
        self::assertSame(0, self::seen('a')['waiting_in_all']);
    }

    public function testBlockGetsALockWhoseLeaseEnds(): void
    {
        $first = $this->there->lock('a', 0.2);
        self::assertTrue($first->get());
        self::assertTrue($this->here->lock('a', 60)->block(30));
        self::assertFalse($first->release());
        self::assertNotNull(self::seen('a'));
    }

    public function testBlockOfZeroDoesNotWait(): void
    {
        self::assertTrue($this->here->lock('a', 60)->block(0));
        self::thrown(LockTimeoutException::class, fn () => $this->there->lock('a', 60)->block(0));
        self::thrown(LockTimeoutException::class, fn () => $this->there->lock('a', 60)->block(-1));
    }

    public function testWhoWaitsForItsOwnLockIsToldSoAtOnce(): void
    {
        self::assertTrue($this->here->lock('a', 60)->get());
        $thrown = self::thrown(DeadlockException::class, fn () => $this->here->lock('a', 60)->block(30));
        self::assertSame(['a'], array_column($thrown->circle(), 'key'));
        self::assertFalse($this->here->lock('a', 60)->get());
    }

    public function testReleaseTellsWhetherItWasHeld(): void
    {
        $lock = $this->here->lock('a', 60);
        self::assertFalse($lock->release());
        $lock->get();
        self::assertFalse($this->here->lock('a', 60)->release());
        self::assertTrue($lock->release());
        self::assertFalse($lock->release());
    }

    public function testRestoredElsewhere(): void
    {
        $lock = $this->here->lock('a', 60);
        $lock->get();
        $restored = $this->there->restoreLock('a', $lock->owner());
        self::assertSame($lock->owner(), $restored->owner());
        self::assertTrue($restored->isOwnedByCurrentProcess());
        self::assertSame($lock->token(), $restored->token());
        self::assertTrue($restored->refresh(30));
        self::assertTrue($restored->release());
        self::assertFalse($lock->release());
    }

    public function testForceRelease(): void
    {
        $lock = $this->here->lock('a', 60);
        $lock->get();
        $this->there->lock('a')->forceRelease();
        self::assertNull(self::seen('a'));
        $this->there->lock('a')->forceRelease();
        self::assertFalse($lock->release());
    }

    public function testRefresh(): void
    {
        $lock = $this->here->lock('a', 100);
        self::assertFalse($lock->refresh());
        $lock->get();
        self::assertEqualsWithDelta(100, self::leaseOf('a'), 30);
        self::assertTrue($lock->refresh(1000));
        self::assertEqualsWithDelta(1000, self::leaseOf('a'), 30);
        self::assertTrue($lock->refresh());
        self::assertEqualsWithDelta(100, self::leaseOf('a'), 30);
        self::assertTrue($lock->refresh(0));
        self::assertNull(self::leaseOf('a'));
        self::assertTrue($lock->refresh(new \DateInterval('PT500S')));
        self::assertEqualsWithDelta(500, self::leaseOf('a'), 30);
        self::assertFalse($this->here->lock('a', 60)->refresh(5));
        self::assertEqualsWithDelta(500, self::leaseOf('a'), 30);
        $lock->release();
        self::assertFalse($lock->refresh(5));
    }

    public function testATinyRefreshIsALimitAndNotTheEndOfIt(): void
    {
        $lock = $this->here->lock('a', 100);
        $lock->get();
        self::assertTrue($lock->refresh(0.0001));
        self::untilFree('a');
        self::assertFalse($lock->refresh());
    }

    /** @dataProvider times */
    public function testLeases(mixed $seconds, float $lease): void
    {
        $seconds = $seconds instanceof \Closure ? $seconds() : $seconds;
        self::assertTrue($this->here->lock('a', $seconds)->get());
        self::assertEqualsWithDelta($lease, self::leaseOf('a'), 30);
    }

    /** @return array<string, array{mixed, float}> */
    public static function times(): array
    {
        return [
            'a number' => [100, 100],
            'a part of a second' => [100.5, 100.5],
            'from the environment' => ['100', 100],
            'an interval' => [new \DateInterval('PT2M'), 120],
            'a moment' => [static fn (): \DateTimeInterface => new \DateTimeImmutable('+200 seconds'), 200],
            'none' => [0, 86400],
            'null' => [null, 86400],
            'less than none' => [-5, 86400],
        ];
    }

    public function testAMomentThatIsOverIsALeaseThatIsOver(): void
    {
        $this->here->lock('a', new \DateTimeImmutable('-1 hour'))->get();
        self::untilFree('a');
        self::assertTrue($this->there->lock('a', 60)->get());
    }

    /** @dataProvider noTimes */
    public function testWhatIsNoTime(mixed $seconds): void
    {
        self::thrown(\InvalidArgumentException::class, fn () => $this->here->lock('a', $seconds));
        self::thrown(\InvalidArgumentException::class, fn () => $this->here->lock('a', 60)->block($seconds));
    }

    /** @return array<string, array{mixed}> */
    public static function noTimes(): array
    {
        return ['text' => ['soon'], 'empty' => [''], 'a list' => [[]], 'not a number' => [NAN]];
    }

    public function testWhoOwnsIt(): void
    {
        $mine = $this->here->lock('a', 60);
        $other = $this->there->lock('a', 60);
        self::assertFalse($mine->isLocked());
        self::assertTrue($mine->isOwnedBy(null));
        self::assertFalse($mine->isOwnedByCurrentProcess());
        $mine->get();
        self::assertTrue($mine->isLocked());
        self::assertTrue($other->isLocked());
        self::assertFalse($mine->isOwnedBy(null));
        self::assertTrue($mine->isOwnedByCurrentProcess());
        self::assertFalse($other->isOwnedByCurrentProcess());
        self::assertTrue($other->isOwnedBy($mine->owner()));
        self::assertFalse($mine->isOwnedBy($other->owner()));
        $mine->release();
        self::assertFalse($other->isLocked());
    }

    public function testTheCurrentOwnerAsLaravelsOwnClassesAskForIt(): void
    {
        $current = new \ReflectionMethod(ElockLock::class, 'getCurrentOwner');
        $mine = $this->here->lock('a', 60, str_repeat('long ', 100));
        self::assertNull($current->invoke($mine));
        $mine->get();
        self::assertSame($mine->owner(), $current->invoke($mine));
        $mine->release();
        $this->there->lock('a', 60, 'some one')->get();
        self::assertSame('some one', $current->invoke($mine));
    }

    public function testTokensGrow(): void
    {
        $first = $this->here->lock('a', 60);
        self::thrown(LostException::class, fn () => $first->token());
        $first->get();
        $token = $first->token();
        self::assertSame($token, $first->token());
        $first->release();
        self::thrown(LostException::class, fn () => $first->token());
        $second = $this->there->lock('a', 60);
        $second->get();
        self::assertGreaterThan($token, $second->token());
    }

    public function testSleepIsAcceptedAndMeansNothing(): void
    {
        $lock = $this->here->lock('a', 60);
        self::assertSame($lock, $lock->betweenBlockedAttemptsSleepFor(60_000));
        $this->there->lock('a', 0.1)->get();
        self::assertTrue($lock->block(30));
    }

    public function testTheNameOfItsConnection(): void
    {
        self::assertSame('default', $this->here->lock('a')->getConnectionName());
    }

    public function testLocksAreNotSerialised(): void
    {
        self::thrown(\LogicException::class, fn () => serialize($this->here->lock('a')));
    }

    /** @dataProvider oddNames */
    public function testNamesAndOwnersOfAnyBytes(string $name): void
    {
        $lock = $this->here->lock($name, 60, $name);
        self::assertTrue($lock->get());
        self::assertFalse($this->there->lock($name, 60)->get());
        self::assertTrue($this->there->lock("$name.", 60, "$name.")->get());
        self::assertTrue($this->there->restoreLock($name, $name)->isOwnedByCurrentProcess());
        self::assertTrue($this->there->restoreLock($name, $name)->release());
    }

    /** @return array<string, array{string}> */
    public static function oddNames(): array
    {
        return [
            'spaces' => ['a b  c'],
            'as if encoded' => ['a%20b'],
            'control characters' => ["a\r\nunlock_all\n\0"],
            'empty' => [''],
            'a class' => ['laravel_unique_job:App\\Jobs\\Import:7'],
            'no UTF-8' => ["\xFF\xFE"],
            'long' => [str_repeat('x', 5000)],
            'letters of others' => ['ключ-鍵'],
        ];
    }

    public function testThePrefixIsPutBeforeTheName(): void
    {
        self::assertTrue(self::provider('app:')->lock('a', 60)->get());
        self::assertNotNull(self::seen('app:a'));
        self::assertTrue($this->here->lock('a', 60)->get());
        self::assertFalse($this->here->lock('app:a', 60)->get());
    }

    public function testTheSameResourceAsThePublicClient(): void
    {
        $hashed = self::provider('', new Options(naming: Naming::Sha1));
        self::assertTrue($hashed->lock('a', 60)->get());
        self::assertNotNull(self::seen(sha1('a')));
    }

    /**
     * @dataProvider methods
     * @param \Closure(ElockLock): mixed $call
     */
    public function testWithoutAServerNothingIsSaidOfTheLock(\Closure $call): void
    {
        $server = Server::start();
        $locks = new ElockLockProvider(new Client($server->tcp(), new Options(connectTimeout: 1.0)));
        $lock = $locks->lock('a', 60);
        $lock->get();
        $server->kill();
        self::thrown(ConnectionException::class, static fn () => $call($lock));
    }

    /**
     * @dataProvider methods
     * @param \Closure(ElockLock): mixed $call
     */
    public function testOfASilentServerNothingIsSaidOfTheLock(\Closure $call): void
    {
        $server = Server::start();
        $locks = new ElockLockProvider(new Client($server->tcp(), new Options(timeout: 0.1)));
        $lock = $locks->lock('a', 60);
        self::until(static function () use ($lock): bool {
            try {
                return !$lock->isLocked();
            } catch (TimeoutException) {
                // A busy machine.
                return false;
            }
        });
        $server->signal(SIGSTOP);
        self::untilSilent($server);
        self::thrown(TimeoutException::class, static fn () => $call($lock));
    }

    /** @return array<string, array{\Closure(ElockLock): mixed}> */
    public static function methods(): array
    {
        return [
            'get' => [static fn (ElockLock $lock) => $lock->get()],
            'block' => [static fn (ElockLock $lock) => $lock->block(0.1)],
            'release' => [static fn (ElockLock $lock) => $lock->release()],
            'forceRelease' => [static fn (ElockLock $lock) => $lock->forceRelease()],
            'refresh' => [static fn (ElockLock $lock) => $lock->refresh()],
            'isLocked' => [static fn (ElockLock $lock) => $lock->isLocked()],
            'isOwnedBy' => [static fn (ElockLock $lock) => $lock->isOwnedBy('me')],
            'isOwnedByCurrentProcess' => [static fn (ElockLock $lock) => $lock->isOwnedByCurrentProcess()],
            'token' => [static fn (ElockLock $lock) => $lock->token()],
        ];
    }

    /**
     * @dataProvider methods
     * @param \Closure(ElockLock): mixed $call
     */
    public function testOfAServerThatFailsNothingIsSaidOfTheLock(\Closure $call): void
    {
        $server = new Worker(__DIR__ . '/failing-server.php');
        $locks = new ElockLockProvider(new Client('tcp://127.0.0.1:' . $server->hear()));
        $lock = $locks->lock('a', 60);
        $thrown = self::thrown(ServerException::class, static fn () => $call($lock));
        self::assertStringContainsString('Not stored', $thrown->getMessage());
    }

    public function testAFullServerIsNoRefusal(): void
    {
        $server = Server::start('--max-locks', '1');
        $locks = new ElockLockProvider(new Client($server->tcp()));
        self::assertTrue($locks->lock('a', 60)->get());
        self::thrown(ElockException::class, static fn () => $locks->lock('b', 60)->get());
    }
}
