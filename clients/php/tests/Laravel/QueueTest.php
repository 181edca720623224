<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Elock\Tests\Laravel\Jobs\BoundJob;
use Elock\Tests\Laravel\Jobs\LonelyJob;
use Elock\Tests\Laravel\Jobs\UniqueJob;
use Elock\Tests\Support\Server;
use Illuminate\Support\Facades\DB;

/**
 * Real queue workers, each a process.
 */
final class QueueTest extends ApplicationTestCase
{
    private const DISPATCH = '$dispatched = new Illuminate\Foundation\Bus\PendingDispatch(new %s());'
        . ' unset($dispatched); return Illuminate\Support\Facades\DB::table("jobs")->count();';
    private const WORK = '$options = new Illuminate\Queue\WorkerOptions(); $options->stopWhenEmpty = true;'
        . ' $options->maxJobs = 1; $options->sleep = 0;'
        . ' return $app->make("queue.worker")->setCache($app->make("cache")->driver())'
        . '->daemon("database", "default", $options);';

    protected function setUp(): void
    {
        extension_loaded('pdo_sqlite') || self::markTestSkipped('there is no SQLite');
        parent::setUp();
        touch("$this->base/database");
        $this->app();
        DB::statement('create table jobs (id integer primary key, queue text, payload text, attempts integer,'
            . ' reserved_at integer, available_at integer, created_at integer)');
    }

    public function testAUniqueJobOverItsLife(): void
    {
        [$web, $other, $worker] = $this->processes(3);
        self::assertSame(1, $web->run(self::dispatch(UniqueJob::class)));
        self::assertCount(1, $this->locks());
        self::assertEqualsWithDelta(1000, self::leaseOf($this->locks()[0]), 30);
        self::assertSame(1, $web->run(self::dispatch(UniqueJob::class)), 'the duplicate was dropped');
        self::assertSame(1, $other->run(self::dispatch(UniqueJob::class)), 'elsewhere, too');
        $worker->start(self::WORK);
        self::assertSame('begun', $worker->line());
        self::assertSame(1, $other->run(self::dispatch(UniqueJob::class)), 'while it is worked off');
        $worker->say('go on');
        self::assertSame(0, $worker->result());
        self::assertSame(0, DB::table('jobs')->count());
        self::assertSame([], $this->locks());
        self::assertSame(1, $other->run(self::dispatch(UniqueJob::class)), 'again');
        $worker->start(self::WORK);
        self::assertSame('begun', $worker->line());
        $worker->say('go on');
        self::assertSame(0, $worker->result());
        self::assertSame([], $this->locks());
    }

    public function testAKilledWorkerLeavesTheUniqueLockToItsLease(): void
    {
        [$web, $worker] = $this->processes(2);
        $web->run(self::dispatch(UniqueJob::class));
        $worker->start(self::WORK);
        self::assertSame('begun', $worker->line());
        $worker->kill();
        self::assertSame(1, $web->run(self::dispatch(UniqueJob::class)));
        self::assertEqualsWithDelta(1000, self::leaseOf($this->locks()[0]), 30);
    }

    public function testJobsThatDoNotOverlap(): void
    {
        [$web, $first, $second] = $this->processes(3);
        $web->run(self::dispatch(LonelyJob::class));
        self::assertSame(2, $web->run(self::dispatch(LonelyJob::class)));
        $first->start(self::WORK);
        self::assertSame('begun', $first->line());
        self::assertEqualsWithDelta(1000, self::leaseOf($this->locks()[0]), 30);
        self::assertSame(0, $second->run(self::WORK), 'it was put back');
        self::assertSame(2, DB::table('jobs')->count());
        $first->say('go on');
        self::assertSame(0, $first->result());
        self::assertSame([], $this->locks());
        self::assertSame(1, DB::table('jobs')->count());
        $second->start(self::WORK);
        self::assertSame('begun', $second->line());
        $second->say('go on');
        self::assertSame(0, $second->result());
        self::assertSame(0, DB::table('jobs')->count());
    }

    public function testABoundLockDiesWithAKilledWorker(): void
    {
        [$web, $first, $second] = $this->processes(3);
        $web->run(self::dispatch(BoundJob::class));
        $web->run(self::dispatch(BoundJob::class));
        $first->start(self::WORK);
        self::assertSame('begun', $first->line());
        $second->start(self::WORK);
        self::untilWaiting('appimport');
        $first->kill();
        self::assertSame('begun', $second->line());
        $second->say('go on');
        self::assertSame(0, $second->result());
        self::assertSame([], $this->locks());
    }

    /** @dataProvider endings */
    public function testARestartWithAStoreLosesNoUniqueLock(\Closure $end): void
    {
        $server = Server::startWithStore();
        [$web, $worker] = $this->restarted($server, $end);
        self::assertSame(1, $web->run(self::dispatch(UniqueJob::class)), 'the duplicate was dropped');
        $worker->say('go on');
        self::assertSame(0, $worker->result());
        self::assertSame(1, $web->run(self::dispatch(UniqueJob::class)), 'again');
    }

    /**
     * The one who dispatched a unique job, and the one who is at it, after a restart of their server.
     *
     * @return array{Process, Process}
     */
    private function restarted(Server $server, \Closure $end): array
    {
        [$web, $worker] = $this->processes(2, $server);
        $web->run(self::dispatch(UniqueJob::class));
        $worker->start(self::WORK);
        self::assertSame('begun', $worker->line());
        $end($server);
        $server->run();
        return [$web, $worker];
    }

    /** @dataProvider endings */
    public function testARestartWithoutAStoreLosesUniqueLocksAndNoJob(\Closure $end): void
    {
        $server = Server::start();
        [$web, $worker] = $this->restarted($server, $end);
        self::assertSame(2, $web->run(self::dispatch(UniqueJob::class)), 'nobody knows of the first');
        $worker->say('go on');
        self::assertSame(0, $worker->result());
        self::assertSame(1, DB::table('jobs')->count());
    }

    /** @return array<string, array{\Closure(Server): mixed}> */
    public static function endings(): array
    {
        return [
            'stopped' => [static fn (Server $server) => $server->stop()],
            'killed' => [static fn (Server $server) => $server->kill()],
        ];
    }

    /** @return list<Process> */
    private function processes(int $count, ?Server $server = null): array
    {
        $server ??= self::$server;
        $settings = $this->settings(['elock.grace' => 0, 'elock.servers' => $server->tcp()]);
        return array_map(static fn (): Process => new Process($server, $settings), range(1, $count));
    }

    /** @return list<string> */
    private function locks(): array
    {
        return array_column(iterator_to_array(self::observer()->locks(), false), 'key');
    }

    private static function dispatch(string $job): string
    {
        return sprintf(self::DISPATCH, $job);
    }
}
