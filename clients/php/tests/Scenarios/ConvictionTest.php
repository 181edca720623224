<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

use Elock\Tests\Scenarios\Drivers\Drivers;
use Elock\Tests\Scenarios\Faults\Fault;
use PHPUnit\Framework\TestCase;

/**
 * The test of the tests: with a fault planted, the scenarios that are named here fail; without a lock, every one.
 */
final class ConvictionTest extends TestCase
{
    /** Of what is surely not seen, in seconds. */
    private const PATIENCE = 4.0;

    private static Ahead $ahead;

    public static function setUpBeforeClass(): void
    {
        self::$ahead = new Ahead(self::jobs());
    }

    /** @dataProvider convictions */
    public function testIsConvicted(int $position): void
    {
        $result = self::$ahead->result($position);
        self::assertNull($result->broken, (string)$result->broken);
        self::assertNull($result->notOffered, (string)$result->notOffered);
        self::assertNotSame([], $result->deviations, 'nothing was noticed');
    }

    public function testEveryFaultIsConvicted(): void
    {
        foreach (Fault::cases() as $fault) {
            self::assertNotSame([], self::witnesses($fault), $fault->value);
        }
    }

    /** @return array<string, array{int}> */
    public function convictions(): array
    {
        $convictions = [];
        foreach (self::jobs() as $position => $job) {
            $convictions["{$job->fault?->value}: $job->scenario"] = [$position];
        }
        return $convictions;
    }

    /** @return list<Job> */
    private static function jobs(): array
    {
        $jobs = [];
        foreach (Fault::cases() as $fault) {
            foreach (self::witnesses($fault) as $scenario) {
                $jobs[] = new Job($scenario, Drivers::PLAIN, $fault, self::PATIENCE);
            }
        }
        return $jobs;
    }

    /** @return list<string> the scenarios that convict it */
    private static function witnesses(Fault $fault): array
    {
        return match ($fault) {
            Fault::NoLock => array_keys(Scenarios::all()),
            Fault::ReleaseIgnoresOwner => [
                'releasedHereAfterItWasRestoredThere', 'aStrangersReleaseFreesNothing', 'releasedByForce',
                'theLateOneDoesNotFreeItsSuccessors', 'oddOwnersAreAllDifferent', 'lostInARestartWithoutAStore',
            ],
            Fault::ReleaseDoesNothing => [
                'releasedHereTakenThere', 'releasedThereByItsOwner', 'checkedThere', 'theSameOwnerTwice', 'manyAtOnce',
                'readersShareWritersDoNot', 'keptOverTheEnd', 'killed', 'killedWithoutALease', 'refreshedItStays',
                'oddNamesAreAllDifferent', 'givesUp', 'theChildReleasesWhatItInherited',
                'releasedBeforeARestartWithAStore',
            ],
            Fault::RefreshIgnoresOwner => [
                'aStrangersRefreshIsRefused', 'theLateOneDoesNotRefreshItsSuccessors', 'whatHasEndedIsNotRefreshed',
            ],
            Fault::RefreshDoesNothing => ['refreshedThere', 'refreshedItStays', 'refreshedToLessItEndsSooner'],
            Fault::BlockComesBackAtOnce => [
                'theLeaseBeginsWithTheGrant', 'oddNamesAreWaitedFor', 'wokenByAReleaseElsewhere',
                'wokenByTheOwnersReleaseElsewhere', 'wokenByAChildsRelease', 'wokenByTheEndOfALease', 'givesUp',
                'killedWaitersLeaveTheQueue', 'twentyInTurn', 'neverTwoInside', 'aDeadlockOfTwo',
                'waitedForOverARestartWithAStore',
            ],
            Fault::BlockDoesNotWait => [
                'theLeaseBeginsWithTheGrant', 'wokenByAReleaseElsewhere', 'wokenByAChildsRelease',
                'wokenByTheEndOfALease', 'killedWaitersLeaveTheQueue', 'twentyInTurn', 'aDeadlockOfTwo',
                'waitedForOverARestartWithAStore',
            ],
            Fault::BlockPolls => ['wokenByAReleaseElsewhere', 'killedWaitersLeaveTheQueue', 'twentyInTurn'],
            Fault::NamesAreMerged, Fault::NamesAreTrimmed, Fault::NamesAreCut => ['oddNamesAreAllDifferent'],
            Fault::OwnersAreMerged => ['oddOwnersAreAllDifferent'],
            Fault::NoLease => [
                'killedAndItsLeaseEnds', 'theLateOneDoesNotFreeItsSuccessors', 'theLateOneDoesNotRefreshItsSuccessors',
                'theLateOneTakesItAnew',
            ],
            Fault::AlwaysALease => ['killedWithoutALease', 'withoutALeaseItStays'],
            Fault::Reentrant => ['theSameOwnerTwice'],
            Fault::Remembers => [
                'releasedThereByItsOwner', 'releasedByForce', 'theLateOneDoesNotRefreshItsSuccessors',
                'refreshedToLessItEndsSooner', 'wokenByAChildsRelease', 'theChildReleasesWhatItInherited',
                'releasedBeforeARestartWithAStore', 'lostInARestartWithoutAStore', 'noServer',
            ],
            Fault::Pretends => ['aServerThatStandsStill', 'askedAgainAfterItStoodStill', 'noServer'],
            Fault::EndsWithItsProcess => [
                'keptOverTheEnd', 'notKeptOverTheEnd', 'theObjectGoes', 'theChildsEndReleasesNothingThatIsKept',
                'theChildsEndAndWhatIsNotKept', 'theChildTakesAnother',
            ],
            Fault::BelongsToItsProcess => [
                'releasedThereByItsOwner', 'keptOverTheEnd', 'endedByAFatalError', 'killed', 'killedWithoutALease',
            ],
        };
    }
}
