<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

use Elock\Tests\Scenarios\Drivers\Drivers;

/**
 * Where a framework, or Redis under it, does another thing than the scenario has it: what, and why. Everything else is
 * the same for all.
 */
final class Differences
{
    /** A framework without it cannot play the scenario. A newer version may have it, and then plays it as all do. */
    private const NOT_OFFERED = [
        Drivers::LARAVEL => [
            'readersShareWritersDoNot' => 'Laravel has no shared locks',
        ],
        Drivers::SYMFONY => [
            'releasedByForce' => 'Symfony releases nothing that is others\'',
            'givesUp' => 'Symfony\'s acquire(true) has no limit',
            'oddOwnersAreAllDifferent' => 'in Symfony, the store chooses the owner',
        ],
        Drivers::LARAVEL_REDIS => [
            'readersShareWritersDoNot' => 'Laravel has no shared locks',
            'aStrangersRefreshIsRefused' => self::NO_REFRESH,
            'refreshedThere' => self::NO_REFRESH,
            'theLateOneDoesNotRefreshItsSuccessors' => self::NO_REFRESH,
            'whatHasEndedIsNotRefreshed' => self::NO_REFRESH,
            'theLateOneTakesItAnew' => self::NO_REFRESH,
            'refreshedItStays' => self::NO_REFRESH,
            'refreshedToLessItEndsSooner' => self::NO_REFRESH,
        ],
        Drivers::SYMFONY_REDIS => [
            'releasedByForce' => 'Symfony releases nothing that is others\'',
            'givesUp' => 'Symfony\'s acquire(true) has no limit',
            'oddOwnersAreAllDifferent' => 'in Symfony, the store chooses the owner',
        ],
    ];

    private const AWAY = [
        'whoever asks while the server is away fails, and waits no longer; on elock it goes on waiting',
        ['waiter 0 waits' => null, 'granted' => null, 'one has it' => null],
    ];
    private const NO_REFRESH = 'Laravel before 13 refreshes no locks on Redis; on elock it does';

    /** What is seen instead, by its step; null: anything. */
    private const OTHERWISE = [
        Drivers::LARAVEL_REDIS => [
            'twentyInTurn' => [
                'there is no queue: each asks again every 250 ms, and the one who asks at the right moment has it',
                ['the order' => null],
            ],
            'aDeadlockOfTwo' => [
                'nobody sees that each waits for the other: both wait to the end',
                ['the circle' => Outcome::GAVE_UP],
            ],
            'waitedForOverARestartWithAStore' => self::AWAY,
        ],
        Drivers::SYMFONY_REDIS => [
            'twentyInTurn' => [
                'there is no queue: each asks again every 100 ms, and the one who asks at the right moment has it',
                ['the order' => null],
            ],
            'askedAgainAfterItStoodStill' => [
                'ext-redis goes on with a connection on which an answer is outstanding, and then takes each answer for '
                . 'that to the request before: a lock that was released is "still locked"',
                ['released' => null],
            ],
            'waitedForOverARestartWithAStore' => self::AWAY,
        ],
    ];

    /** It would come to no end. */
    private const NOT_PLAYED = [
        Drivers::SYMFONY_REDIS => [
            'aDeadlockOfTwo' => 'nobody sees that each waits for the other, and acquire(true) has no limit',
        ],
    ];

    public static function notOffered(Job $job): ?string
    {
        return self::NOT_OFFERED[$job->driver][$job->scenario] ?? null;
    }

    public static function notPlayed(Job $job): ?string
    {
        return self::NOT_PLAYED[$job->driver][$job->scenario] ?? null;
    }

    /** Whether what was seen is what is written here. */
    public static function explain(Job $job, Result $result): bool
    {
        [, $otherwise] = self::OTHERWISE[$job->driver][$job->scenario] ?? ['', []];
        foreach ($result->deviations as $step => $seen) {
            if (!array_key_exists($step, $otherwise) || ($otherwise[$step] ?? $seen) !== $seen) {
                return false;
            }
        }
        return true;
    }

    /** @return list<array{string, string}> driver and scenario of all of them */
    public static function all(): array
    {
        $all = [];
        foreach ([self::NOT_OFFERED, self::OTHERWISE, self::NOT_PLAYED] as $table) {
            foreach ($table as $driver => $scenarios) {
                foreach (array_keys($scenarios) as $scenario) {
                    $all[] = [$driver, $scenario];
                }
            }
        }
        return $all;
    }
}
