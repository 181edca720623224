<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

use Elock\Tests\Support\Worker;

/**
 * A run of an example in a process of its own, and what it has said, on standard output or error.
 */
final class Run
{
    /** @var list<string> */
    private array $said = [];
    private bool $hasEnded = false;
    private ?int $code = null;
    private readonly Worker $worker;

    /**
     * @param list<string> $arguments
     * @param array<string, string> $environment
     */
    public function __construct(string $script, array $arguments, array $environment)
    {
        $this->worker = new Worker($script, $arguments, $environment, true);
    }

    /** @return list<string> what it has said so far */
    public function said(): array
    {
        try {
            $this->hear(0.001);
        } catch (\RuntimeException) {
            // No more by now.
        }
        return $this->said;
    }

    public function tell(string $line): void
    {
        $this->worker->tell($line);
    }

    /**
     * Ends its input, and waits for its end.
     *
     * @return list<string> all that it said
     */
    public function end(): array
    {
        $this->worker->closeInput();
        $this->hear(30.0);
        return $this->said;
    }

    /** Ends it likewise, and gives its exit code. */
    public function code(): int
    {
        $this->end();
        return $this->code ??= $this->worker->finish();
    }

    public function kill(): void
    {
        $this->worker->kill();
    }

    private function hear(float $patience): void
    {
        while (!$this->hasEnded) {
            $line = $this->worker->hear($patience);
            if ($line === null) {
                $this->hasEnded = true;
            } else {
                $this->said[] = $line;
            }
        }
    }
}
