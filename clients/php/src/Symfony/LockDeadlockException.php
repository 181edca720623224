<?php

declare(strict_types=1);

namespace Elock\Symfony;

use Elock\Exception\DeadlockException;
use Elock\Naming;
use Symfony\Component\Lock\Exception\LockConflictedException;

/**
 * Waiting for the lock would have been a deadlock. Nothing was taken away from anyone: whoever is told should release
 * what it holds, and may start over.
 */
final class LockDeadlockException extends LockConflictedException
{
    /** @internal */
    public function __construct(private readonly DeadlockException $deadlock, private readonly Naming $naming)
    {
        parent::__construct($deadlock->getMessage(), 0, $deadlock);
    }

    /**
     * Who waits for whom, from the one who asked on: each session, by its number, waits for the key that the next one
     * holds, and the last for one that the first holds. Of more than 32 steps, the first and the last 16.
     *
     * @return list<array{session: int, key: string}>
     */
    public function circle(): array
    {
        return $this->deadlock->circle($this->naming);
    }
}
