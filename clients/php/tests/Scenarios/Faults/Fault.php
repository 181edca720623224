<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Faults;

use Elock\Tests\Scenarios\Driver;

/**
 * What could be wrong with a lock: planted, to see that scenarios notice.
 */
enum Fault: string
{
    case NoLock = 'the lock does nothing';
    case ReleaseIgnoresOwner = 'release ignores the owner';
    case ReleaseDoesNothing = 'release does nothing';
    case RefreshIgnoresOwner = 'refresh is granted to anyone';
    case RefreshDoesNothing = 'refresh does nothing';
    case BlockComesBackAtOnce = 'block comes back at once, as if it had the lock';
    case BlockDoesNotWait = 'block does not wait';
    case BlockPolls = 'block asks again and again';
    case NamesAreMerged = 'a name and its encoded form are one';
    case NamesAreTrimmed = 'spaces around a name are cut';
    case NamesAreCut = 'long names are cut';
    case OwnersAreMerged = 'an owner and its encoded form are one';
    case NoLease = 'the lease is forgotten';
    case AlwaysALease = 'there is a lease where none was asked for';
    case Reentrant = 'the owner gets it twice';
    case Remembers = 'whose it is is remembered, and not asked';
    case Pretends = 'a failure counts as an answer';
    case EndsWithItsProcess = 'the end of the process releases it';
    case BelongsToItsProcess = 'only the process that took it can release it';

    /** A driver that has it. */
    public function in(Driver $driver): Driver
    {
        return new FaultyDriver($driver, $this);
    }
}
