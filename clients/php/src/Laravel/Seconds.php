<?php

declare(strict_types=1);

namespace Elock\Laravel;

/**
 * What Laravel's users write for a time: a number, a numeric string (from the environment), an interval, or a moment.
 *
 * @internal
 */
final class Seconds
{
    /** A lease that is over before it begins still is one: 0 would be read as "no limit". */
    private const SHORTEST = 0.001;

    /**
     * @return float in seconds; 0 and less mean what they mean where they are written
     * @throws \InvalidArgumentException it is no time
     */
    public static function of(mixed $time): float
    {
        if (is_int($time)) {
            return (float)$time;
        }
        if ($time instanceof \DateInterval) {
            $time = (new \DateTimeImmutable())->add($time);
        }
        if ($time instanceof \DateTimeInterface) {
            return max(self::SHORTEST, (float)$time->format('U.u') - microtime(true));
        }
        if ($time === null) {
            return 0.0;
        }
        if (!is_numeric($time) || is_nan((float)$time)) {
            throw new \InvalidArgumentException('this is no time in seconds: ' . get_debug_type($time));
        }
        return (float)$time;
    }
}
