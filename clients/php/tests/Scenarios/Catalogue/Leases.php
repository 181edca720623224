<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Catalogue;

use Elock\Tests\Scenarios\Outcome;
use Elock\Tests\Scenarios\World;

/**
 * Locks end by their time, and whoever comes late does no harm.
 */
final class Leases
{
    public function theLateOneDoesNotFreeItsSuccessors(World $world): void
    {
        [$late, $next, $third] = $world->processes(3);
        $lock = $late->lock('k', 1.0);
        $world->see('first', Outcome::TAKEN, $lock->take());
        $successors = $next->lock('k');
        $world->see('next', Outcome::TAKEN, $world->untilTaken($successors));
        $world->see('late release', Outcome::NOT_HELD, $lock->release());
        $world->see('still', Outcome::MINE, $successors->isMine());
        $world->see('third', Outcome::REFUSED, $third->lock('k')->take());
    }

    public function theLateOneDoesNotRefreshItsSuccessors(World $world): void
    {
        [$late, $next, $third] = $world->processes(3);
        $lock = $late->lock('k', 1.0);
        $lock->take();
        $successors = $next->lock('k', 1.0);
        $world->see('next', Outcome::TAKEN, $world->untilTaken($successors));
        $world->see('late refresh', Outcome::LOST, $lock->refresh(3600.0));
        $world->see('late one', Outcome::NOT_MINE, $lock->isMine());
        $world->see('its lease is as it was', Outcome::TAKEN, $world->untilTaken($third->lock('k')));
    }

    public function whatHasEndedIsNotRefreshed(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k', 1.0);
        $world->see('here', Outcome::TAKEN, $lock->take());
        $world->aSecondPasses();
        $world->see('over', Outcome::NOT_MINE, $lock->isMine());
        $world->see('nobody has it', Outcome::FREE, $there->lock('k')->isLocked());
        $world->see('late refresh', Outcome::LOST, $lock->refresh(60.0));
        $world->see('there', Outcome::TAKEN, $there->lock('k')->take());
    }

    public function theLateOneTakesItAnew(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k', 1.0);
        $lock->take();
        $world->see('once more, after its end', Outcome::TAKEN, $world->untilTaken($lock));
        $world->see('refreshed', Outcome::REFRESHED, $lock->refresh(60.0));
        $world->see('there', Outcome::REFUSED, $there->lock('k')->take());
    }

    public function refreshedItStays(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k', 1.0);
        $lock->take();
        $world->see('refreshed', Outcome::REFRESHED, $lock->refresh(60.0));
        $world->aSecondPasses();
        $world->see('mine', Outcome::MINE, $lock->isMine());
        $world->see('there', Outcome::REFUSED, $there->lock('k')->take());
        $world->see('released', Outcome::RELEASED, $lock->release());
        $world->see('then', Outcome::TAKEN, $there->lock('k')->take());
    }

    public function refreshedToLessItEndsSooner(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k', 3600.0);
        $lock->take();
        $world->see('refreshed', Outcome::REFRESHED, $lock->refresh(1.0));
        $world->see('then', Outcome::TAKEN, $world->untilTaken($there->lock('k')));
        $world->see('lost', Outcome::NOT_MINE, $lock->isMine());
    }

    public function withoutALeaseItStays(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k', 0.0);
        $world->see('here', Outcome::TAKEN, $lock->take());
        $world->aSecondPasses();
        $world->see('there', Outcome::REFUSED, $there->lock('k')->take());
        $world->see('released', Outcome::RELEASED, $lock->release());
        $world->see('then', Outcome::TAKEN, $there->lock('k')->take());
    }

    public function theLeaseBeginsWithTheGrant(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        [$lock, $waiting] = [$here->lock('k'), $there->lock('k', 2.0)];
        $lock->take();
        $waiting->startBlock($world->longWait());
        $world->allWait($waiting);
        $world->aSecondPasses();
        $world->aSecondPasses();
        $lock->release();
        $world->see('granted', Outcome::TAKEN, $waiting->outcome());
        $world->see('held', Outcome::MINE, $waiting->isMine());
        $world->see('third', Outcome::REFUSED, $third->lock('k')->take());
    }
}
