<?php

declare(strict_types=1);

namespace Elock\Laravel;

use Elock\Exception\ElockException;
use Elock\Exception\RefusedException;

/**
 * To whom a lock belongs, and how it is taken and given back. Any method throws an {@see ElockException} when the
 * server cannot be asked.
 *
 * @internal
 */
interface Hold
{
    /**
     * @param float $wait how long to wait in the server's queue, in seconds
     * @param float $lease after which it ends by itself, in seconds; 0 and less: never
     * @throws RefusedException others hold it, to the end of the wait; or it would be a deadlock
     */
    public function take(float $wait, float $lease): void;

    /** False if it was not held. */
    public function release(): bool;

    /** False if it is not held. */
    public function refresh(float $lease): bool;

    /** The fencing token; null if it is not held. */
    public function token(): ?int;
}
