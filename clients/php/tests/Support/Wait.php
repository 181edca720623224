<?php

declare(strict_types=1);

namespace Elock\Tests\Support;

use Elock\Client;

/**
 * For a state, and never for a time.
 */
final class Wait
{
    private const PATIENCE = 30.0;

    /** @param callable(): bool $condition */
    public static function until(callable $condition, string $what): void
    {
        for ($ends = hrtime(true) + self::PATIENCE * 1e9; !$condition(); usleep(2000)) {
            if (hrtime(true) > $ends) {
                throw new \RuntimeException("in vain: $what");
            }
        }
    }

    /** For so many requests that wait, as `debug` shows them, for this word of a key. */
    public static function forWaiters(Client $observer, string $word, int $number = 1): void
    {
        self::until(static fn (): bool => self::waiters($observer, $word) === $number, "$number wait for $word");
    }

    public static function waiters(Client $observer, string $word): int
    {
        return count(preg_grep('/^REQUEST #\d+ ' . preg_quote($word, '/') . ' /', $observer->debug()) ?: []);
    }
}
