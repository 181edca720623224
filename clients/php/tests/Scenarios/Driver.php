<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

/**
 * Locks as an application makes them, in one process.
 */
interface Driver
{
    /**
     * Takes nothing yet.
     *
     * @param float $seconds the lease; 0: none is asked for
     * @param string|null $owner as {@see DriverLock::owner()} gave it, perhaps in another process; null: a new one
     * @param bool $keep whether it is to outlive its object, where the framework would release it with that
     */
    public function lock(string $name, float $seconds, ?string $owner, bool $keep): DriverLock;

    /** What an application has to do in a forked process. */
    public function forked(): void;
}
