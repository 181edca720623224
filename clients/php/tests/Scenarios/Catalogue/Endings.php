<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Catalogue;

use Elock\Tests\Scenarios\Outcome;
use Elock\Tests\Scenarios\World;

/**
 * The process that took the lock has ended.
 */
final class Endings
{
    public function keptOverTheEnd(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        $lock = $here->lock('k');
        $world->see('here', Outcome::TAKEN, $lock->take());
        $owner = $lock->owner();
        $here->end();
        $world->see('kept', Outcome::REFUSED, $there->lock('k')->take());
        $restored = $third->lock('k', owner: $owner);
        $world->see('its owner has it', Outcome::MINE, $restored->isMine());
        $world->see('released', Outcome::RELEASED, $restored->release());
        $world->see('then', Outcome::TAKEN, $there->lock('k')->take());
    }

    /** Symfony releases with the object, unless told otherwise; Laravel leaves it to the lease. */
    public function notKeptOverTheEnd(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $world->see('here', Outcome::TAKEN, $here->lock('k', keep: false)->take());
        $here->end();
        $expected = $world->either(inSymfony: Outcome::TAKEN, elsewhere: Outcome::REFUSED);
        $world->see('there', $expected, $there->lock('k')->take());
    }

    public function theObjectGoes(World $world): void
    {
        [$here, $there] = $world->processes(2);
        [$kept, $other] = [$here->lock('k', keep: true), $here->lock('other', keep: false)];
        $kept->take();
        $other->take();
        $kept->drop();
        $other->drop();
        $world->see('kept', Outcome::REFUSED, $there->lock('k')->take());
        $expected = $world->either(inSymfony: Outcome::TAKEN, elsewhere: Outcome::REFUSED);
        $world->see('not kept', $expected, $there->lock('other')->take());
    }

    public function endedByAFatalError(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        $lock = $here->lock('k', keep: false);
        $world->see('here', Outcome::TAKEN, $lock->take());
        $owner = $lock->owner();
        $here->crash();
        $world->see('stays', Outcome::REFUSED, $there->lock('k')->take());
        $world->see('released', Outcome::RELEASED, $third->lock('k', owner: $owner)->release());
        $world->see('then', Outcome::TAKEN, $there->lock('k')->take());
    }

    public function killed(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        $lock = $here->lock('k', keep: false);
        $world->see('here', Outcome::TAKEN, $lock->take());
        $owner = $lock->owner();
        $here->kill();
        $world->see('stays', Outcome::REFUSED, $there->lock('k')->take());
        $restored = $third->lock('k', owner: $owner);
        $world->see('its owner has it', Outcome::MINE, $restored->isMine());
        $world->see('released', Outcome::RELEASED, $restored->release());
        $world->see('then', Outcome::TAKEN, $there->lock('k')->take());
    }

    public function killedAndItsLeaseEnds(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $world->see('a short one', Outcome::TAKEN, $here->lock('k', 1.0)->take());
        $world->see('a long one', Outcome::TAKEN, $here->lock('other', 60.0)->take());
        $here->kill();
        $world->see('the short one ends', Outcome::TAKEN, $world->untilTaken($there->lock('k')));
        $world->see('the long one does not', Outcome::REFUSED, $there->lock('other')->take());
    }

    public function killedWithoutALease(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        $lock = $here->lock('k', 0.0);
        $world->see('here', Outcome::TAKEN, $lock->take());
        $owner = $lock->owner();
        $here->kill();
        $world->aSecondPasses();
        $world->see('stays', Outcome::REFUSED, $there->lock('k')->take());
        $world->see('released', Outcome::RELEASED, $third->lock('k', owner: $owner)->release());
        $world->see('then', Outcome::TAKEN, $there->lock('k')->take());
    }
}
