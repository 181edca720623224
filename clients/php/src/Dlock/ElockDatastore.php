<?php

declare(strict_types=1);

namespace Elock\Dlock;

use Dlock\Datastore\DatastoreInterface;
use Elock\Client;
use Elock\Exception\ElockException;
use Elock\Exception\LostException;
use Elock\Exception\RefusedException;
use Elock\Lock;
use Elock\Owner;

/**
 * A datastore for `warmans/dlock`: its locks belong to an owner word that is this object's alone, so that one whose TTL
 * has ended does not release its successor's lock. They outlive the connection and the process.
 */
final class ElockDatastore implements DatastoreInterface
{
    private readonly Owner $owner;

    /**
     * @param int|float $ttl the lease of each lock in seconds, after which it ends by itself; 0: none
     */
    public function __construct(Client $client, private readonly int|float $ttl = 3600)
    {
        if (!($ttl >= 0)) {
            throw new \InvalidArgumentException('the TTL is 0 seconds or more');
        }
        $this->owner = $client->owner();
    }

    /**
     * Takes the lock, without a wait.
     *
     * @param string $lockId
     * @return bool whether it was taken; false: others hold it, or this object does already
     * @throws ElockException the server could not be asked
     */
    public function acquireLock($lockId): bool
    {
        try {
            $this->waitForLock((string)$lockId, 0.0);
            return true;
        } catch (RefusedException) {
            return false;
        }
    }

    /**
     * Takes the lock, waiting in the server's queue.
     *
     * @param float $wait how long, in seconds
     * @throws RefusedException others hold it, to the end of the wait; or it would be a deadlock
     */
    public function waitForLock(string $lockId, float $wait): Lock
    {
        return $this->owner->lock($lockId, $wait, (float)$this->ttl);
    }

    /**
     * Releases the lock.
     *
     * @param string $lockId
     * @return bool whether it was held until now; if not, what was done under it may have been done beside others
     * @throws ElockException the server could not be asked
     */
    public function releaseLock($lockId): bool
    {
        return $this->owner->unlock((string)$lockId);
    }

    /**
     * The lock that this object holds.
     *
     * @throws LostException it is not held, or not any more
     */
    public function heldLock(string $lockId): Lock
    {
        return $this->owner->held($lockId);
    }
}
