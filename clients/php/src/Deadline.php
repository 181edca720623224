<?php

declare(strict_types=1);

namespace Elock;

/**
 * A moment on the monotonic clock, which nobody sets.
 *
 * @internal
 */
final class Deadline
{
    private function __construct(private readonly float $at)
    {
    }

    /** So many seconds from now. */
    public static function in(float $seconds): self
    {
        return new self(hrtime(true) / 1e9 + $seconds);
    }

    /** In seconds; 0 when it is over. */
    public function left(): float
    {
        $left = $this->at - hrtime(true) / 1e9;
        return $left > 0.0 ? $left : 0.0;
    }

    public function isOver(): bool
    {
        return $this->left() === 0.0;
    }
}
