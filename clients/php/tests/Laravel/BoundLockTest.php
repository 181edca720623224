<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Elock\Client;
use Elock\Exception\LostException;
use Elock\Laravel\ElockLockProvider;
use Elock\Tests\Support\Server;
use Illuminate\Contracts\Cache\LockTimeoutException;

final class BoundLockTest extends LaravelTestCase
{
    private ElockLockProvider $here;
    private ElockLockProvider $there;

    protected function setUp(): void
    {
        parent::setUp();
        $this->here = self::provider();
        $this->there = self::provider();
    }

    public function testItIsALockLikeAnyOther(): void
    {
        $lock = $this->here->lock('a', 100);
        self::assertSame($lock, $lock->boundToConnection());
        self::assertSame($lock, $lock->boundToConnection());
        self::assertFalse($lock->isLocked());
        self::assertFalse($lock->release());
        self::assertFalse($lock->refresh(5));
        self::thrown(LostException::class, static fn () => $lock->token());
        self::assertTrue($lock->get());
        self::assertFalse($lock->get());
        self::assertSame($lock, $lock->boundToConnection());
        self::assertTrue($lock->isLocked());
        self::assertTrue($this->there->lock('a')->isLocked());
        self::assertFalse($lock->isOwnedBy(null));
        self::assertTrue($lock->isOwnedByCurrentProcess());
        self::assertTrue($lock->isOwnedBy($lock->owner()));
        self::assertFalse($lock->isOwnedBy('another'));
        self::assertSame($lock->token(), self::seen('a')['holders'][0]['token']);
        self::assertEqualsWithDelta(100, self::leaseOf('a'), 30);
        self::assertTrue($lock->refresh(1000));
        self::assertEqualsWithDelta(1000, self::leaseOf('a'), 30);
        self::assertTrue($lock->refresh(0));
        self::assertTrue($lock->refresh(-1), 'less than nothing is no limit, either');
        self::assertNull(self::leaseOf('a'));
        self::assertTrue($lock->release());
        self::assertFalse($lock->release());
        self::assertFalse($lock->isLocked());
        self::assertSame('done', $lock->block(1, static fn () => 'done'));
    }

    public function testWithoutSecondsItHasNoLimitButItsConnection(): void
    {
        self::assertTrue($this->here->lock('a')->boundToConnection()->get());
        self::assertNull(self::leaseOf('a'));
    }

    public function testTwoOfOneProcessExcludeEachOther(): void
    {
        [$first, $second] = [$this->here->lock('a'), $this->here->lock('a')->boundToConnection()];
        self::assertTrue($first->boundToConnection()->get());
        self::assertFalse($second->get());
        self::thrown(LockTimeoutException::class, static fn () => $second->block(30));
        self::assertFalse($second->isOwnedByCurrentProcess());
        self::assertFalse($second->release());
        self::assertFalse($second->refresh(5));
        self::assertTrue($first->isOwnedByCurrentProcess());
        self::assertTrue($first->release());
        self::assertTrue($second->get());
        self::assertFalse($first->isOwnedByCurrentProcess());
    }

    public function testItExcludesLocksOfOwners(): void
    {
        self::assertTrue($this->here->lock('a')->boundToConnection()->get());
        self::assertFalse($this->here->lock('a')->get());
        self::assertFalse($this->there->lock('a')->get());
        self::assertFalse($this->there->lock('a')->boundToConnection()->get());
        self::assertTrue($this->here->lock('b', 60)->get());
        self::assertFalse($this->here->lock('b')->boundToConnection()->get());
    }

    public function testItCannotBeRestored(): void
    {
        $lock = $this->here->lock('a', 60, 'me')->boundToConnection();
        $lock->get();
        self::assertStringContainsString('me', $lock->owner());
        foreach ([$this->here, $this->there] as $locks) {
            $thrown = self::thrown(\LogicException::class, static fn () => $locks->restoreLock('a', $lock->owner()));
            self::assertStringContainsString('cannot be restored', $thrown->getMessage());
            $other = $locks->lock('a');
            self::thrown(\LogicException::class, static fn () => $other->isOwnedBy($lock->owner()));
        }
        self::assertFalse($this->there->restoreLock('a', 'me')->release());
        self::assertTrue($lock->isOwnedByCurrentProcess());
    }

    public function testItIsBoundBeforeItIsTaken(): void
    {
        $lock = $this->here->lock('a', 60);
        $lock->get();
        self::thrown(\LogicException::class, static fn () => $lock->boundToConnection());
        self::assertTrue($lock->release());
    }

    public function testOnlyItsOwnProcessCanForceIt(): void
    {
        $lock = $this->here->lock('a')->boundToConnection();
        $lock->get();
        self::thrown(LostException::class, fn () => $this->there->lock('a')->forceRelease());
        self::assertTrue($lock->isOwnedByCurrentProcess());
        $this->here->lock('a')->forceRelease();
        self::assertFalse($lock->isLocked());
        self::assertFalse($lock->release());
    }

    public function testItEndsWithItsClient(): void
    {
        $client = new Client(self::$server->tcp());
        (new ElockLockProvider($client))->lock('a')->boundToConnection()->get();
        unset($client);
        self::assertTrue($this->there->lock('a', 60)->get());
    }

    public function testItsLeaseEndsItToo(): void
    {
        $lock = $this->here->lock('a', 0.3)->boundToConnection();
        self::assertTrue($lock->get());
        self::untilFree('a');
        self::assertFalse($lock->isOwnedByCurrentProcess());
        self::assertFalse($lock->isLocked());
        self::assertFalse($lock->refresh());
        self::assertTrue($this->there->lock('a', 60)->get());
        self::assertTrue($lock->isLocked());
        self::assertFalse($lock->release());
        self::assertTrue($lock->isLocked());
    }

    public function testItIsKeptOverARestartWithAStore(): void
    {
        $server = Server::startWithStore();
        $locks = new ElockLockProvider(new Client($server->tcp()));
        [$bound, $owned] = [$locks->lock('a')->boundToConnection(), $locks->lock('b', 60)];
        self::assertTrue($bound->get() && $owned->get());
        $tokens = [$bound->token(), $owned->token()];
        $server->kill();
        $server->run();
        self::assertSame($tokens, [$bound->token(), $owned->token()]);
        self::assertTrue($bound->isOwnedByCurrentProcess());
        self::assertTrue($bound->refresh(60));
        self::assertTrue($owned->refresh());
        self::assertTrue($bound->release());
        self::assertTrue($owned->release());
    }

    public function testARestartWithoutAStoreLosesItAndSaysSo(): void
    {
        $server = Server::start();
        $locks = new ElockLockProvider(new Client($server->tcp()));
        [$bound, $owned] = [$locks->lock('a')->boundToConnection(), $locks->lock('b', 60)];
        self::assertTrue($bound->get() && $owned->get());
        $server->stop();
        $server->run();
        foreach ([$bound, $owned] as $lock) {
            self::assertFalse($lock->isOwnedByCurrentProcess());
            self::assertFalse($lock->isLocked());
            self::assertFalse($lock->refresh());
            self::assertFalse($lock->release());
            self::thrown(LostException::class, static fn () => $lock->token());
            self::assertTrue($lock->get());
            self::assertTrue($lock->release());
        }
    }
}
