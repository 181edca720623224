<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Catalogue;

use Elock\Tests\Scenarios\Outcome;
use Elock\Tests\Scenarios\World;

/**
 * Taken in one process; the rest happens in others.
 */
final class Elsewhere
{
    public function takenHereRefusedThere(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $world->see('here', Outcome::TAKEN, $here->lock('k')->take());
        $world->see('there', Outcome::REFUSED, $there->lock('k')->take());
        $world->see('again', Outcome::REFUSED, $there->lock('k')->take());
        $world->see('another', Outcome::TAKEN, $there->lock('other')->take());
    }

    public function releasedHereTakenThere(World $world): void
    {
        [$here, $there] = $world->processes(2);
        for ($round = 1; $round <= 5; $round++) {
            [$first, $second] = [$here->lock('k'), $there->lock('k')];
            $world->see("taken $round", Outcome::TAKEN, $first->take());
            $world->see("refused $round", Outcome::REFUSED, $second->take());
            $world->see("released $round", Outcome::RELEASED, $first->release());
            [$here, $there] = [$there, $here];
        }
    }

    public function releasedThereByItsOwner(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        $lock = $here->lock('k');
        $world->see('here', Outcome::TAKEN, $lock->take());
        $restored = $there->lock('k', owner: $lock->owner());
        $world->see('before', Outcome::REFUSED, $third->lock('k')->take());
        $world->see('released', Outcome::RELEASED, $restored->release());
        $world->see('lost', Outcome::NOT_MINE, $lock->isMine());
        $world->see('after', Outcome::TAKEN, $third->lock('k')->take());
    }

    public function releasedHereAfterItWasRestoredThere(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        $lock = $here->lock('k');
        $lock->take();
        $restored = $there->lock('k', owner: $lock->owner());
        $world->see('there', Outcome::MINE, $restored->isMine());
        $world->see('released', Outcome::RELEASED, $lock->release());
        $world->see('not there any more', Outcome::NOT_MINE, $restored->isMine());
        $world->see('no second release', Outcome::NOT_HELD, $restored->release());
        $world->see('after', Outcome::TAKEN, $third->lock('k')->take());
    }

    public function aStrangersReleaseFreesNothing(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k');
        $lock->take();
        $world->see('stranger', Outcome::NOT_HELD, $there->lock('k')->release());
        $world->see('still', Outcome::MINE, $lock->isMine());
        $world->see('there', Outcome::REFUSED, $there->lock('k')->take());
    }

    public function aStrangersRefreshIsRefused(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k');
        $lock->take();
        $world->see('stranger', Outcome::LOST, $there->lock('k')->refresh(60.0));
        $world->see('still', Outcome::MINE, $lock->isMine());
    }

    public function refreshedThere(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        $lock = $here->lock('k', 1.0);
        $world->see('here', Outcome::TAKEN, $lock->take());
        $restored = $there->lock('k', owner: $lock->owner());
        $world->see('refreshed', Outcome::REFRESHED, $restored->refresh(60.0));
        $world->aSecondPasses();
        $world->see('after its first lease', Outcome::REFUSED, $third->lock('k')->take());
        $world->see('held', Outcome::MINE, $restored->isMine());
    }

    public function checkedThere(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k');
        $world->see('before', Outcome::NOT_MINE, $lock->isMine());
        $world->see('nobody has it', Outcome::FREE, $there->lock('k')->isLocked());
        $lock->take();
        $world->see('here', Outcome::MINE, $lock->isMine());
        $world->see('its owner', Outcome::MINE, $there->lock('k', owner: $lock->owner())->isMine());
        $world->see('a stranger', Outcome::NOT_MINE, $there->lock('k')->isMine());
        $world->see('somebody has it', Outcome::LOCKED, $there->lock('k')->isLocked());
        $lock->release();
        $world->see('afterwards', Outcome::FREE, $there->lock('k')->isLocked());
    }

    /** Laravel's is a mutex; with Symfony, acquiring what one has renews it. */
    public function theSameOwnerTwice(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        $lock = $here->lock('k');
        $world->see('first', Outcome::TAKEN, $lock->take());
        $again = $world->either(inSymfony: Outcome::TAKEN, elsewhere: Outcome::REFUSED);
        $world->see('again', $again, $lock->take());
        $world->see('there', $again, $there->lock('k', owner: $lock->owner())->take());
        $world->see('third', Outcome::REFUSED, $third->lock('k')->take());
        $lock->release();
        $world->see('one release frees it', Outcome::TAKEN, $third->lock('k')->take());
    }

    public function releasedByForce(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k');
        $lock->take();
        $there->lock('k')->forceRelease();
        $world->see('lost', Outcome::NOT_MINE, $lock->isMine());
        $world->see('late release', Outcome::NOT_HELD, $lock->release());
        $world->see('there', Outcome::TAKEN, $there->lock('k')->take());
        $world->see('a free one', Outcome::FREE, $there->lock('other')->forceRelease() ?? Outcome::FREE);
    }

    public function manyAtOnce(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $locks = [];
        foreach (range(1, 50) as $number) {
            $locks[$number] = $here->lock("k$number");
            $world->see("k$number here", Outcome::TAKEN, $locks[$number]->take());
        }
        foreach ($locks as $number => $lock) {
            $world->see("k$number there", Outcome::REFUSED, $there->lock("k$number")->take());
            $number % 2 === 0 && $lock->release();
        }
        foreach ($locks as $number => $lock) {
            $expected = $number % 2 === 0 ? Outcome::TAKEN : Outcome::REFUSED;
            $world->see("k$number then", $expected, $there->lock("k$number")->take());
        }
    }

    public function readersShareWritersDoNot(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        [$first, $second] = [$here->lock('k'), $there->lock('k')];
        $world->see('one reads', Outcome::TAKEN, $first->takeShared());
        $world->see('two read', Outcome::TAKEN, $second->takeShared());
        $world->see('nobody writes', Outcome::REFUSED, $third->lock('k')->take());
        $first->release();
        $world->see('still nobody', Outcome::REFUSED, $third->lock('k')->take());
        $second->release();
        $writer = $third->lock('k');
        $world->see('then one', Outcome::TAKEN, $writer->take());
        $world->see('nobody reads', Outcome::REFUSED, $here->lock('k')->takeShared());
    }
}
