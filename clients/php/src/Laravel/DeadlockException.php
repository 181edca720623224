<?php

declare(strict_types=1);

namespace Elock\Laravel;

use Elock\Exception\DeadlockException as Deadlock;
use Elock\Naming;
use Illuminate\Contracts\Cache\LockTimeoutException;

/**
 * Waiting would never have ended: of those who wait for each other, everyone waits for the next. Nothing was taken away
 * from anyone; whoever is told should release what it holds, and may start over. For those who catch
 * LockTimeoutException, it is one, which comes at once.
 */
final class DeadlockException extends LockTimeoutException
{
    /** @param list<array{session: int, key: string}> $circle */
    private function __construct(string $message, private readonly array $circle, Deadlock $previous)
    {
        parent::__construct($message, 0, $previous);
    }

    /** @internal */
    public static function of(string $name, Deadlock $answer, Naming $naming): self
    {
        return new self("waiting for the lock \"$name\" would be a deadlock: {$answer->getMessage()}", $answer->circle(
            $naming,
        ), $answer);
    }

    /**
     * Who waits for whom, from this process on: each session, by its number, waits for the key that the next one holds,
     * and the last for one that the first holds. Keys are the names of locks, with their prefix.
     *
     * @return list<array{session: int, key: string}>
     */
    public function circle(): array
    {
        return $this->circle;
    }
}
