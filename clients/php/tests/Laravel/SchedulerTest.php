<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Illuminate\Console\Scheduling\CacheEventMutex;
use Illuminate\Console\Scheduling\CacheSchedulingMutex;
use Illuminate\Console\Scheduling\Event;
use Illuminate\Support\Facades\Cache;

/**
 * `withoutOverlapping()` and `onOneServer()` of the scheduler. Newer versions do it by locks, 8.83 by the cache.
 */
final class SchedulerTest extends ApplicationTestCase
{
    private CacheEventMutex $mutex;
    private Event $event;

    protected function setUp(): void
    {
        parent::setUp();
        $this->mutex = new CacheEventMutex($this->app()->make('cache'));
        $this->event = new Event($this->mutex, 'report');
    }

    public function testWithoutOverlapping(): void
    {
        self::assertFalse($this->mutex->exists($this->event));
        self::assertTrue($this->mutex->create($this->event));
        self::assertFalse($this->mutex->create($this->event));
        self::assertTrue($this->mutex->exists($this->event));
        if ($this->isByLocks()) {
            self::assertEqualsWithDelta(86400, self::leaseOf('app' . $this->event->mutexName()), 30);
        }
        $this->mutex->forget($this->event);
        self::assertFalse($this->mutex->exists($this->event));
        self::assertTrue($this->mutex->create($this->event));
    }

    public function testOnOneServer(): void
    {
        $scheduling = new CacheSchedulingMutex($this->app()->make('cache'));
        $time = new \DateTimeImmutable();
        self::assertFalse($scheduling->exists($this->event, $time));
        self::assertTrue($scheduling->create($this->event, $time));
        self::assertFalse($scheduling->create($this->event, $time));
        self::assertTrue($scheduling->exists($this->event, $time));
    }

    public function testClearingTheCacheLetsNothingOverlap(): void
    {
        if (!$this->isByLocks()) {
            self::markTestSkipped('this version has it in the cache');
        }
        $this->mutex->create($this->event);
        Cache::flush();
        self::assertTrue($this->mutex->exists($this->event));
    }

    private function isByLocks(): bool
    {
        return method_exists($this->mutex, 'shouldUseLocks');
    }
}
