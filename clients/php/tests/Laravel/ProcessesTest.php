<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Elock\Laravel\DeadlockException;
use Elock\Tests\Support\Server;
use Illuminate\Contracts\Cache\LockTimeoutException;

final class ProcessesTest extends LaravelTestCase
{
    public function testBlockReturnsWhenAnotherProcessReleases(): void
    {
        [$first, $second] = [new Process(self::$server), new Process(self::$server)];
        self::assertTrue($first->run('$lock = $locks->lock("a", 60); return $lock->get();'));
        $second->start('$lock = $locks->lock("a", 60); return $lock->block(30);');
        self::untilWaiting('a');
        self::assertTrue($first->run('return $lock->release();'));
        self::assertTrue($second->result());
        self::assertTrue($second->run('return $lock->isOwnedByCurrentProcess();'));
        self::assertFalse($first->run('return $lock->get();'));
    }

    public function testTheQueueIsFair(): void
    {
        $first = self::provider()->lock('a', 60);
        $first->get();
        $processes = [];
        for ($place = 1; $place <= 4; $place++) {
            $processes[] = $process = new Process(self::$server);
            $process->start('$lock = $locks->lock("a", 60); $lock->block(30); return $lock->token();');
            self::untilWaiting('a', $place);
        }
        $tokens = [$first->token()];
        $first->release();
        foreach ($processes as $process) {
            $tokens[] = $process->result();
            $process->run('return $lock->release();');
        }
        $sorted = $tokens;
        sort($sorted);
        self::assertSame($sorted, $tokens);
    }

    public function testBlockGivesUpWhileAnotherProcessHoldsTheLock(): void
    {
        [$first, $second] = [new Process(self::$server), new Process(self::$server)];
        $first->run('return $locks->lock("a", 60)->get();');
        $second->start('return $locks->lock("a", 60)->block(0.2);');
        self::assertSame(LockTimeoutException::class, $second->answer()['thrown']);
        self::assertSame(0, self::seen('a')['waiting_in_all']);
    }

    public function testAKilledWaiterLeavesTheQueue(): void
    {
        [$first, $second, $third] = array_map(static fn () => new Process(self::$server), range(1, 3));
        $first->run('$lock = $locks->lock("a", 60); return $lock->get();');
        $second->start('return $locks->lock("a", 60)->block(30);');
        self::untilWaiting('a');
        $third->start('return $locks->lock("a", 60)->block(30);');
        self::untilWaiting('a', 2);
        $second->kill();
        self::untilWaiting('a');
        $first->run('return $lock->release();');
        self::assertTrue($third->result());
    }

    /** @dataProvider kindsOfLocks */
    public function testADeadlockNamesItsCircle(string $kind): void
    {
        [$first, $second] = [new Process(self::$server), new Process(self::$server)];
        $first->run("return (\$a = \$locks->lock('a')$kind)->get();");
        $second->run("return (\$b = \$locks->lock('b')$kind)->get();");
        $first->start("return \$locks->lock('b')->block(30);");
        self::untilWaiting('b');
        $second->start("return \$locks->lock('a')->block(30);");
        $answer = $second->answer();
        self::assertSame(DeadlockException::class, $answer['thrown']);
        self::assertSame(['a', 'b'], array_column((array)$answer['circle'], 'key'));
        self::assertCount(2, array_unique(array_column((array)$answer['circle'], 'session')));
        self::assertTrue($second->run('return $b->release();'));
        self::assertTrue($first->result());
    }

    /** @return array<string, array{string}> */
    public static function kindsOfLocks(): array
    {
        return ['of owners' => [''], 'of connections' => ['->boundToConnection()']];
    }

    public function testALockOutlivesItsProcessUntilItsLeaseEnds(): void
    {
        $first = new Process(self::$server, [], 0.0);
        $owner = $first->run('$lock = $locks->lock("a", 60); $lock->get(); return $lock->owner();');
        $first->kill();
        $lock = self::provider()->restoreLock('a', $owner);
        self::assertTrue($lock->isOwnedByCurrentProcess());
        self::assertTrue($lock->release());
    }

    public function testABoundLockDiesWithItsProcess(): void
    {
        $first = new Process(self::$server, [], 0.0);
        $second = new Process(self::$server);
        self::assertTrue($first->run('return $locks->lock("a")->boundToConnection()->get();'));
        self::assertNull(self::leaseOf('a'));
        $second->start('return $locks->lock("a")->boundToConnection()->block(30);');
        self::untilWaiting('a');
        $first->kill();
        self::assertTrue($second->result());
    }

    public function testABoundLockEndsWithTheScript(): void
    {
        $first = new Process(self::$server);
        self::assertTrue($first->run('return ($lock = $locks->lock("a")->boundToConnection())->get();'));
        $first->finish();
        self::assertNull(self::seen('a'));
    }

    public function testAForkedChildIsAnotherProcess(): void
    {
        if (!function_exists('pcntl_fork')) {
            self::markTestSkipped('there is no pcntl');
        }
        $parent = new Process(self::$server);
        $parent->run('$owned = $locks->lock("a", 60); $bound = $locks->lock("b")->boundToConnection();'
            . ' return [$owned->get(), $bound->get()];');
        $child = '$of = [$owned->isOwnedByCurrentProcess(), $bound->isOwnedByCurrentProcess(), $bound->release(),'
            . ' $locks->lock("b")->boundToConnection()->get(), $locks->lock("c", 60)->get()];';
        $parent->run('$pipe = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0); $pid = pcntl_fork();'
            . " if (\$pid === 0) { $child fwrite(\$pipe[1], json_encode(\$of) . \"\n\"); exit; } return 0;");
        $said = $parent->run('$said = fgets($pipe[0]); pcntl_waitpid($pid, $status); return $said;');
        self::assertSame([true, false, false, false, true], json_decode($said));
        $still = $parent->run('return [$owned->isOwnedByCurrentProcess(), $bound->isOwnedByCurrentProcess()];');
        self::assertSame([true, true], $still);
    }

    public function testBlockGoesOnOverARestart(): void
    {
        $server = Server::startWithStore();
        [$first, $second] = [new Process($server), new Process($server)];
        $first->run('$lock = $locks->lock("a", 60); return $lock->get();');
        $second->start('return $locks->lock("a", 60)->block(30);');
        $observer = new \Elock\Client($server->unix());
        $waits = static fn (): bool => [...$observer->locks()][0]['waiting_in_all'] === 1;
        self::until($waits);
        $server->kill();
        $server->run();
        self::until($waits);
        self::assertTrue($first->run('return $lock->release();'));
        self::assertTrue($second->result());
    }

    public function testBlockGetsALockThatARestartHasForgotten(): void
    {
        $server = Server::start();
        [$first, $second] = [new Process($server), new Process($server)];
        $first->run('$lock = $locks->lock("a", 60); return $lock->get();');
        $second->start('return $locks->lock("a", 60)->block(30);');
        $observer = new \Elock\Client($server->unix());
        self::until(static fn (): bool => [...$observer->locks()][0]['waiting_in_all'] === 1);
        $server->stop();
        $server->run();
        self::assertTrue($second->result());
        self::assertFalse($first->run('return $lock->release();'));
        self::assertFalse($first->run('return $lock->isOwnedByCurrentProcess();'));
    }
}
