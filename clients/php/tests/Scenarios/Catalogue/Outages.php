<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Catalogue;

use Elock\Tests\Scenarios\Outcome;
use Elock\Tests\Scenarios\Play;
use Elock\Tests\Scenarios\World;

/**
 * The server stops, stands still, or comes back: what is not known is not told.
 */
final class Outages
{
    #[Play(hasStore: true)]
    public function heldOverARestartWithAStore(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k');
        $world->see('here', Outcome::TAKEN, $lock->take());
        $there->lock('other')->take();
        $world->server()->restart();
        $world->see('still', Outcome::MINE, $lock->isMine());
        $world->see('there', Outcome::REFUSED, $there->lock('k')->take());
        $world->see('released', Outcome::RELEASED, $lock->release());
        $world->see('then', Outcome::TAKEN, $there->lock('k')->take());
    }

    #[Play(hasStore: true)]
    public function waitedForOverARestartWithAStore(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        [$lock, $waiting] = [$here->lock('*k='), $there->lock('*k=')];
        $lock->take();
        $waiting->startBlock($world->longWait());
        $world->allWait($waiting);
        $world->server()->restart();
        $world->allWait($waiting);
        $world->see('third', Outcome::REFUSED, $third->lock('*k=')->take());
        $lock->release();
        $world->see('granted', Outcome::TAKEN, $waiting->outcome());
        $world->see('one has it', Outcome::REFUSED, $third->lock('*k=')->take());
    }

    #[Play(hasStore: true)]
    public function releasedBeforeARestartWithAStore(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k');
        $lock->take();
        $lock->release();
        $world->server()->restart();
        $world->see('it has it no more', Outcome::NOT_MINE, $lock->isMine());
        $world->see('there', Outcome::TAKEN, $there->lock('k')->take());
    }

    public function lostInARestartWithoutAStore(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k');
        $lock->take();
        $world->server()->restart();
        $world->see('lost', Outcome::NOT_MINE, $lock->isMine());
        $successors = $there->lock('k');
        $world->see('there', Outcome::TAKEN, $successors->take());
        $world->see('late release', Outcome::NOT_HELD, $lock->release());
        $world->see('still', Outcome::MINE, $successors->isMine());
    }

    #[Play(timeout: 3.0)]
    public function aServerThatStandsStill(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        [$lock, $other] = [$here->lock('k'), $here->lock('other')];
        $lock->take();
        $world->see('another', Outcome::TAKEN, $there->lock('another')->take());
        $world->server()->signal(SIGSTOP);
        $world->see('whose it is', Outcome::FAILED, $lock->isMine());
        $world->see('another lock', Outcome::FAILED, $other->take());
        $world->see('the same lock', Outcome::FAILED, $there->lock('k')->take());
        $world->see('release', Outcome::FAILED, $there->lock('k', owner: $lock->owner())->release() ?? 'released');
        $world->server()->signal(SIGCONT);
        // What was not known may have been done, when the server goes on: its owner can give it back.
        $giveBack = static function () use ($other, $third): ?string {
            $other->release();
            return $third->lock('other')->take();
        };
        $world->see('given back', Outcome::TAKEN, $world->until(Outcome::TAKEN, $giveBack));
    }

    #[Play(timeout: 3.0)]
    public function askedAgainAfterItStoodStill(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k');
        $lock->take();
        $there->lock('another')->take();
        $world->server()->signal(SIGSTOP);
        $world->see('whose it is', Outcome::FAILED, $lock->isMine());
        $world->see('there', Outcome::FAILED, $there->lock('k')->take());
        $world->server()->signal(SIGCONT);
        $world->see('it has it', Outcome::MINE, $lock->isMine());
        $world->see('there, then', Outcome::REFUSED, $there->lock('k')->take());
        $world->see('released', Outcome::RELEASED, $lock->release());
    }

    #[Play(timeout: 3.0)]
    public function noServer(World $world): void
    {
        [$here, $there] = $world->processes(2);
        $lock = $here->lock('k', owner: null);
        $lock->take();
        $there->lock('another')->take();
        $world->server()->kill();
        $world->see('whose it is', Outcome::FAILED, $lock->isMine());
        $world->see('another lock', Outcome::FAILED, $here->lock('other')->take());
        $world->see('the same lock', Outcome::FAILED, $there->lock('k')->take());
        $world->see('release', Outcome::FAILED, $lock->release() ?? 'released');
    }
}
