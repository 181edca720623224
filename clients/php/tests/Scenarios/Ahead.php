<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

use Elock\Tests\Support\Worker;

/**
 * Plays some scenarios at a time, since most of their time is the waiting for leases to end: while one is asked for,
 * those behind it are under way.
 */
final class Ahead
{
    private const PLAYERS = 6;
    /** A scenario's own patience is shorter. */
    private const PATIENCE = 180.0;

    /** @var array<int, Worker> */
    private array $players = [];

    /** @param list<Job> $jobs in the order in which they will be asked for; some may be left out */
    public function __construct(private readonly array $jobs)
    {
    }

    public function result(int $position): Result
    {
        for ($next = $position; $next < min($position + self::PLAYERS, count($this->jobs)); $next++) {
            $this->players[$next] ??= new Worker(__DIR__ . '/player.php', [Message::line($this->jobs[$next])]);
        }
        $line = $this->players[$position]->hear(self::PATIENCE);
        unset($this->players[$position]);
        return $line === null ? new Result(broken: 'its player has ended') : Message::read($line);
    }
}
