<?php

declare(strict_types=1);

namespace Elock;

/**
 * Between attempts to reach a server that is away: longer each time.
 *
 * @internal
 */
final class Pause
{
    /** In seconds, as all times. */
    private const FIRST = 0.02;
    private const LONGEST = 0.5;

    private float $next = self::FIRST;

    /** Not beyond that deadline. Signal handlers run behind it. */
    public function sleep(Deadline $ends): void
    {
        usleep((int)(min($this->next, $ends->left()) * 1e6));
        Signals::dispatch();
        $this->next = min(2 * $this->next, self::LONGEST);
    }
}
