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
    private int $last = -1;

    /** @param list<Job> $jobs in the order in which they will be asked for; some may be left out */
    public function __construct(private readonly array $jobs)
    {
    }

    /** They end what they have begun: their servers are theirs to end. */
    public function __destruct()
    {
        foreach (array_keys($this->players) as $position) {
            $this->end($position);
        }
    }

    public function result(int $position): Result
    {
        // Of a few that were picked, those behind them are not wanted.
        $ahead = $position === $this->last + 1 ? self::PLAYERS : 1;
        $this->last = $position;
        for ($next = $position; $next < min($position + $ahead, count($this->jobs)); $next++) {
            $this->players[$next] ??= new Worker(__DIR__ . '/play_scenario.php', [Message::line($this->jobs[$next])]);
        }
        return $this->end($position);
    }

    private function end(int $position): Result
    {
        $line = $this->players[$position]->hear(self::PATIENCE);
        $this->players[$position]->finish();
        unset($this->players[$position]);
        return $line === null ? new Result(broken: 'its player has ended') : Message::read($line);
    }
}
