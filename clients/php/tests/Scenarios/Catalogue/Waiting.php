<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Catalogue;

use Elock\Tests\Scenarios\Outcome;
use Elock\Tests\Scenarios\World;

/**
 * Whoever waits gets the lock when it is free, and in turn.
 */
final class Waiting
{
    public function wokenByAReleaseElsewhere(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        [$lock, $waiting] = [$here->lock('k'), $there->lock('k')];
        $lock->take();
        $waiting->startBlock($world->longWait());
        $world->allWait($waiting);
        $world->see('released', Outcome::RELEASED, $lock->release());
        $world->see('granted', Outcome::TAKEN, $waiting->outcome());
        $world->see('third', Outcome::REFUSED, $third->lock('k')->take());
        $world->see('the first', Outcome::NOT_MINE, $lock->isMine());
    }

    public function wokenByTheOwnersReleaseElsewhere(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        [$lock, $waiting] = [$here->lock('k'), $there->lock('k')];
        $lock->take();
        $owner = $lock->owner();
        $here->end();
        $waiting->startBlock($world->longWait());
        $world->allWait($waiting);
        $third->lock('k', owner: $owner)->release();
        $world->see('granted', Outcome::TAKEN, $waiting->outcome());
        $world->see('third', Outcome::REFUSED, $third->lock('k')->take());
    }

    public function wokenByAChildsRelease(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        [$lock, $waiting] = [$here->lock('k'), $there->lock('k')];
        $lock->take();
        $waiting->startBlock($world->longWait());
        $world->allWait($waiting);
        $here->ask('fork', [[$lock->id, 'release']], false);
        $world->see('granted', Outcome::TAKEN, $waiting->outcome());
        $world->see('the parent', Outcome::NOT_MINE, $lock->isMine());
        $world->see('third', Outcome::REFUSED, $third->lock('k')->take());
    }

    public function wokenByTheEndOfALease(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        [$lock, $waiting] = [$here->lock('k', 1.0), $there->lock('k')];
        $lock->take();
        $waiting->startBlock($world->longWait());
        $world->allWait($waiting);
        $here->kill();
        $world->see('granted', Outcome::TAKEN, $waiting->outcome());
        $world->see('third', Outcome::REFUSED, $third->lock('k')->take());
    }

    public function givesUp(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        [$lock, $waiting] = [$here->lock('k'), $there->lock('k')];
        $lock->take();
        $world->see('too late', Outcome::GAVE_UP, $waiting->block(1.0));
        $world->see('it has nothing', Outcome::NOT_MINE, $waiting->isMine());
        $world->see('the holder', Outcome::MINE, $lock->isMine());
        $world->see('third', Outcome::REFUSED, $third->lock('k')->take());
        $lock->release();
        $world->see('nobody stands before it', Outcome::TAKEN, $third->lock('k')->take());
    }

    public function killedWaitersLeaveTheQueue(World $world): void
    {
        $here = $world->process();
        $lock = $here->lock('k');
        $lock->take();
        $waiting = [];
        foreach ($world->processes(4) as $process) {
            $waiting[] = $process->lock('k');
            end($waiting)->startBlock($world->longWait());
            $world->allWait(...$waiting);
        }
        $waiting[0]->process->kill();
        $waiting[1]->process->kill();
        $waiting[3]->process->kill();
        $world->allWait($waiting[2]);
        $lock->release();
        $world->see('the one who lives', Outcome::TAKEN, $waiting[2]->outcome());
        $world->see('the first', Outcome::REFUSED, $lock->take());
        $waiting[2]->release();
        $world->see('nobody else', Outcome::TAKEN, $world->untilTaken($lock));
    }

    public function twentyInTurn(World $world): void
    {
        $here = $world->process();
        $lock = $here->lock('k');
        $lock->take();
        $waiting = [];
        $file = "$world->directory/order";
        foreach ($world->processes(20) as $number => $process) {
            $waiting[] = $process->lock('k');
            $process->tell('enter', end($waiting)->id, $world->longWait(), "$world->directory/door", $file, "$number ");
            $world->allWait(...$waiting);
        }
        $lock->release();
        $overlaps = array_map(static fn ($lock): mixed => $lock->outcome(), $waiting);
        $world->see('nobody beside another', '[' . implode(',', array_fill(0, 20, 0)) . ']', json_encode($overlaps));
        $order = trim((string)@file_get_contents($file));
        $world->see('the order', implode(' ', range(0, 19)), $order);
    }

    public function neverTwoInside(World $world): void
    {
        $processes = $world->processes(5);
        $doors = "$world->directory/door";
        $locks = array_map(static fn ($process) => $process->lock('k'), $processes);
        foreach ($locks as $lock) {
            $lock->process->tell('work', $lock->id, 10, $world->longWait(), 3, $doors);
        }
        foreach ($locks as $number => $lock) {
            $world->see("process $number", '[10,0]', json_encode($lock->outcome()));
        }
    }

    public function aDeadlockOfTwo(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $here->lock('x')->take();
        $held = $there->lock('y');
        $held->take();
        [$waiting, $closing] = [$here->lock('y'), $there->lock('x')];
        $wait = $world->either('0', '3');
        $waiting->startBlock((float)$wait === 0.0 ? 0.0 : 60.0);
        $world->allWait($waiting);
        $world->see('the circle', Outcome::DEADLOCK, $closing->block((float)$wait));
        $held->release();
        $world->see('who let go lets the other go on', Outcome::TAKEN, $waiting->outcome());
    }
}
