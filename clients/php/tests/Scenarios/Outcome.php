<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

/**
 * What a lock said, in words that are the same for all frameworks.
 */
final class Outcome
{
    public const TAKEN = 'taken';
    public const REFUSED = 'refused';
    public const GAVE_UP = 'gave up';
    public const DEADLOCK = 'deadlock';
    public const REFRESHED = 'refreshed';
    public const LOST = 'lost';
    public const RELEASED = 'released';
    public const NOT_HELD = 'not held';
    public const MINE = 'mine';
    public const NOT_MINE = 'not mine';
    public const LOCKED = 'locked';
    public const FREE = 'free';
    /** An exception that says that it is not known. */
    public const FAILED = 'failed';
    /** The process that was asked has ended. */
    public const ENDED = 'ended';
}
