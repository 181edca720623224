<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Catalogue;

use Elock\Tests\Scenarios\Outcome;
use Elock\Tests\Scenarios\Play;
use Elock\Tests\Scenarios\World;

/**
 * A child is forked by a process that has locks.
 */
final class Forks
{
    public function theChildReleasesWhatItInherited(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k');
        $lock->take();
        $outcomes = $here->ask('fork', [[$lock->id, 'isMine'], [$lock->id, 'release'], [$lock->id, 'isMine']], false);
        $world->see('it has it', Outcome::MINE, $outcomes[0]);
        $world->see('it releases it', Outcome::RELEASED, $outcomes[1]);
        $world->see('it has it no more', Outcome::NOT_MINE, $outcomes[2]);
        $world->see('the parent', Outcome::NOT_MINE, $lock->isMine());
        $world->see('there', Outcome::TAKEN, $there->lock('k')->take());
    }

    public function theChildsEndReleasesNothingThatIsKept(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k', keep: true);
        $lock->take();
        $world->see('the child', '["mine"]', json_encode($here->ask('fork', [[$lock->id, 'isMine']], false)));
        $world->see('the parent', Outcome::MINE, $lock->isMine());
        $world->see('there', Outcome::REFUSED, $there->lock('k')->take());
        $world->see('released', Outcome::RELEASED, $lock->release());
    }

    /** The end of the child is the end of its object, too: in Symfony, that releases the parent's lock. */
    public function theChildsEndAndWhatIsNotKept(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k', keep: false);
        $lock->take();
        $here->ask('fork', [], false);
        $expected = $world->either(inSymfony: Outcome::TAKEN, elsewhere: Outcome::REFUSED);
        $world->see('there', $expected, $there->lock('k')->take());
    }

    public function aKilledChildReleasesNothing(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k', keep: false);
        $lock->take();
        $here->ask('fork', [[$lock->id, 'isMine']], true);
        $world->see('the parent', Outcome::MINE, $lock->isMine());
        $world->see('there', Outcome::REFUSED, $there->lock('k')->take());
    }

    public function theChildTakesAnother(World $world): void
    {
        [$here, $there] = $world->processes(2);
        [$lock, $other] = [$here->lock('k'), $here->lock('other', keep: true)];
        $lock->take();
        $outcomes = $here->ask('fork', [[$other->id, 'take']], false);
        $world->see('the child', Outcome::TAKEN, $outcomes[0]);
        $world->see('the parent', Outcome::MINE, $lock->isMine());
        $world->see('k there', Outcome::REFUSED, $there->lock('k')->take());
        $world->see('other there', Outcome::REFUSED, $there->lock('other')->take());
        $world->see('released', Outcome::RELEASED, $lock->release());
    }

    #[Play(timeout: 10.0)]
    public function manyChildrenConfuseNobody(World $world): void
    {
        [$here, $there] = $world->processes(2);
        [$mine, $other] = [$here->lock('k'), $here->lock('other')];
        $mine->take();
        $there->lock('other')->take();
        $orders = [[$mine->id, 'isMine'], [$other->id, 'take'], [$mine->id, 'isMine'], [$other->id, 'isMine']];
        $seen = $here->ask('crowd', 4, 100, $orders);
        $world->see('all of them', '["mine, refused, mine, not mine"]', json_encode($seen));
        $world->see('the parent', Outcome::MINE, $mine->isMine());
        $world->see('released', Outcome::RELEASED, $mine->release());
    }
}
