<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

use Elock\Tests\Scenarios\Faults\Fault;

/**
 * A scenario, and what to play it with.
 */
final class Job
{
    /** @param float $patience how long to wait for a state that surely comes, in seconds */
    public function __construct(
        public readonly string $scenario,
        public readonly string $driver,
        public readonly ?Fault $fault = null,
        public readonly float $patience = 60.0,
    ) {
    }

    public function play(): Result
    {
        try {
            return new Result(Scenarios::play($this));
        } catch (NotOffered $problem) {
            return new Result(notOffered: $problem->getMessage());
        } catch (\Throwable $problem) {
            return new Result(broken: $problem::class . ': ' . $problem->getMessage());
        }
    }
}
