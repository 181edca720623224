<?php

declare(strict_types=1);

namespace Elock\Tests\Symfony;

use Symfony\Component\Lock\Exception\LockConflictedException;
use Symfony\Component\Lock\Key;

/** Several processes at one server. */
final class ProcessesTest extends SymfonyTestCase
{
    public function testWaitsForAnotherProcess(): void
    {
        [$one, $other] = [$this->worker(), $this->worker()];
        foreach (['waitAndSave', 'waitAndSaveRead'] as $method) {
            self::assertSame('ok', $one->ask('save report'));
            $other->tell("$method report");
            $this->untilWaiting('report', 1);
            self::assertSame('ok', $one->ask('delete report'));
            self::assertSame('ok', $other->hear());
            self::assertSame('false', $one->ask('exists report'));
            self::assertSame('true', $other->ask('exists report'));
            self::assertSame('ok', $other->ask('delete report'));
        }
    }

    public function testFirstComeFirstServed(): void
    {
        $store = $this->store();
        $key = new Key('report');
        $store->save($key);
        $workers = [];
        for ($number = 1; $number <= 4; $number++) {
            $workers[] = $worker = $this->worker();
            $worker->tell('waitAndSave report');
            $this->untilWaiting('report', $number);
        }
        $store->delete($key);
        $last = 0;
        foreach ($workers as $worker) {
            self::assertSame('ok', $worker->hear());
            self::assertGreaterThan($last, $last = (int)$worker->ask('token report'));
            self::assertSame('ok', $worker->ask('delete report'));
        }
    }

    public function testAKilledWaiterIsPassedOver(): void
    {
        $store = $this->store();
        $key = new Key('report');
        $store->save($key);
        [$killed, $next] = [$this->worker(), $this->worker()];
        $killed->tell('waitAndSave report');
        $this->untilWaiting('report', 1);
        $next->tell('waitAndSave report');
        $this->untilWaiting('report', 2);
        $killed->kill();
        $this->untilWaiting('report', 1);
        $store->delete($key);
        self::assertSame('ok', $next->hear());
    }

    public function testAKilledHoldersLockEndsWithItsLease(): void
    {
        [$killed, $next] = [$this->worker(), $this->worker()];
        self::assertSame('ok', $killed->ask('save report'));
        $next->tell('waitAndSave report');
        $this->untilWaiting('report', 1);
        self::assertSame('ok', $killed->ask('putOffExpiration report 0.5'));
        $killed->kill();
        self::assertSame('ok', $next->hear());
    }

    public function testReadersTogether(): void
    {
        [$one, $other, $writer] = [$this->worker(), $this->worker(), $this->worker()];
        self::assertSame('ok', $one->ask('waitAndSaveRead page'));
        self::assertSame('ok', $other->ask('saveRead page'));
        self::assertSame('LockConflictedException', $writer->ask('save page'));
        $writer->tell('waitAndSave page');
        $this->untilWaiting('page', 1);
        // A reader does not pass a writer that waits.
        $late = $this->worker();
        self::assertSame('LockConflictedException', $late->ask('saveRead page'));
        self::assertSame('ok', $one->ask('delete page'));
        self::assertSame('ok', $other->ask('delete page'));
        self::assertSame('ok', $writer->hear());
        self::assertSame('LockConflictedException', $late->ask('saveRead page'));
    }

    public function testPromotedWhenTheOtherReaderHasLeft(): void
    {
        [$one, $other] = [$this->worker(), $this->worker()];
        self::assertSame('ok', $one->ask('saveRead page'));
        self::assertSame('ok', $other->ask('saveRead page'));
        $token = $one->ask('token page');
        self::assertSame('LockNotPromotedException', $one->ask('save page'));
        $one->tell('waitAndSave page');
        self::assertSame('ok', $other->ask('delete page'));
        self::assertSame('ok', $one->hear());
        self::assertSame($token, $one->ask('token page'));
        self::assertSame('LockConflictedException', $other->ask('saveRead page'));
    }

    public function testDemotionLetsAWaitingReaderIn(): void
    {
        [$one, $other] = [$this->worker(), $this->worker()];
        self::assertSame('ok', $one->ask('save page'));
        $other->tell('waitAndSaveRead page');
        $this->untilWaiting('page', 1);
        self::assertSame('ok', $one->ask('saveRead page'));
        self::assertSame('ok', $other->hear());
        self::assertSame('true', $one->ask('exists page'));
    }

    /** @dataProvider methods */
    public function testAKeyOfAnotherProcess(string $save): void
    {
        [$one, $other] = [$this->worker(), $this->worker()];
        self::assertSame('ok', $one->ask("$save report"));
        $key = $one->ask('export report');
        $one->kill();
        self::assertSame('LockConflictedException', $other->ask('save report'));
        self::assertSame('ok', $other->ask("import report $key"));
        self::assertSame('true', $other->ask('exists report'));
        self::assertSame('ok', $other->ask('putOffExpiration report 100'));
        self::assertGreaterThan(0, (int)$other->ask('token report'));
        self::assertSame('ok', $other->ask("$save report"), 'taken again, by its own key');
        self::assertSame('ok', $other->ask('delete report'));
        $this->store()->save(new Key('report'));
    }

    /** @return iterable<string, array{string}> */
    public static function methods(): iterable
    {
        yield 'a writer' => ['save'];
        yield 'a reader' => ['saveRead'];
        yield 'one that waited' => ['waitAndSave'];
        yield 'a reader that waited' => ['waitAndSaveRead'];
    }

    public function testALateReleaseTouchesNoSuccessor(): void
    {
        [$late, $next] = [$this->worker(), $this->worker()];
        self::assertSame('ok', $late->ask('save report'));
        $next->tell('waitAndSave report');
        $this->untilWaiting('report', 1);
        $late->ask('putOffExpiration report 0.2');
        self::assertSame('ok', $next->hear());
        self::assertSame('LockConflictedException', $late->ask('putOffExpiration report 100'));
        self::assertSame('ok', $late->ask('delete report'));
        self::assertSame('true', $next->ask('exists report'));
    }

    public function testDeadlockOfTwo(): void
    {
        [$one, $other] = [$this->worker(), $this->worker()];
        self::assertSame('ok', $one->ask('save a'));
        self::assertSame('ok', $other->ask('save b'));
        $one->tell('waitAndSave b');
        $this->untilWaiting('b', 1);
        self::assertSame('LockDeadlockException', $other->ask('waitAndSave a'));
        self::assertSame('LockDeadlockException', $other->ask('save a'));
        self::assertSame('ok', $other->ask('delete b'));
        self::assertSame('ok', $one->hear());
    }

    public function testNeverTwoAtATime(): void
    {
        $workers = [];
        for ($number = 0; $number < 4; $number++) {
            $workers[] = new \Elock\Tests\Support\Worker(
                __DIR__ . '/counting.php',
                [$this->server->unix(), "{$this->server->directory}/count", '50'],
            );
        }
        file_put_contents("{$this->server->directory}/count", '0');
        foreach ($workers as $worker) {
            $worker->tell('go');
        }
        foreach ($workers as $worker) {
            self::assertSame('done', $worker->hear());
        }
        self::assertSame('200', file_get_contents("{$this->server->directory}/count"));
    }

    public function testAForkedChildHasAConnectionOfItsOwn(): void
    {
        if (!function_exists('pcntl_fork')) {
            self::markTestSkipped('ext-pcntl is not installed');
        }
        $store = $this->store();
        $key = new Key('report');
        $store->save($key);
        $child = pcntl_fork();
        if ($child === 0) {
            $right = $store->exists($key);
            try {
                $store->save(new Key('report'));
                $right = false;
            } catch (LockConflictedException) {
            }
            // Without a word to the test's own parents: no destructors.
            posix_kill((int)getmypid(), $right ? SIGTERM : SIGKILL);
        }
        pcntl_waitpid($child, $status);
        self::assertSame(SIGTERM, pcntl_wtermsig($status));
        self::assertTrue($store->exists($key));
    }
}
