<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

use Elock\Tests\Support\Worker;

/**
 * A process of a scenario, seen from outside.
 */
final class Process
{
    /** How long an answer may take that surely comes, in seconds, on a machine that has much to do. */
    private const PATIENCE = 60.0;

    private readonly Worker $worker;
    private int $made = 0;
    /** The last failure in its own words. */
    public string $problem = '';

    /** @param array<string, mixed> $settings */
    public function __construct(array $settings)
    {
        $this->worker = new Worker(__DIR__ . '/serve_agent.php', [Message::line($settings)]);
    }

    /** See {@see Driver::lock()}. */
    public function lock(string $name, float $seconds = 60.0, ?string $owner = null, bool $keep = true): RemoteLock
    {
        $id = (string)++$this->made;
        $this->ask('make', $id, $name, $seconds, $owner, $keep);
        return new RemoteLock($this, $id);
    }

    /** @return mixed what came of it; `Outcome::ENDED` if the process did */
    public function ask(string $what, mixed ...$arguments): mixed
    {
        $this->tell($what, ...$arguments);
        return $this->hear();
    }

    public function tell(string $what, mixed ...$arguments): void
    {
        $this->worker->tell(Message::line([$what, ...$arguments]));
    }

    public function hear(float $patience = self::PATIENCE): mixed
    {
        $line = $this->worker->hear($patience);
        if ($line === null) {
            return Outcome::ENDED;
        }
        [$outcome, $problem] = Message::read($line);
        if ($outcome === NotOffered::class) {
            throw new NotOffered($problem);
        }
        $this->problem = $problem !== '' ? $problem : $this->problem;
        return $outcome;
    }

    /** Goes to its end, with destructors. */
    public function end(): void
    {
        $this->worker->finish();
    }

    /** By a fatal error. */
    public function crash(): void
    {
        $this->ask('fatal');
    }

    public function kill(): void
    {
        $this->worker->kill();
    }

    public function signal(int $signal): void
    {
        $this->worker->signal($signal);
    }
}
