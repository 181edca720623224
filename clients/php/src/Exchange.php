<?php

declare(strict_types=1);

namespace Elock;

/**
 * Requests that are sent in one packet, and the answers that have come so far: also when it broke in the middle.
 *
 * @internal
 */
final class Exchange
{
    /** Whether the server may have got any of it. */
    public bool $isSent = false;
    /** @var list<Request> what the connection says before, for itself */
    public array $greeting = [];
    /** @var list<Answer> to the greeting and to the requests */
    public array $answers = [];

    /** @param list<Request> $requests */
    public function __construct(public readonly array $requests)
    {
    }

    /** As before anything of it was sent, as nothing of it was done. */
    public function startOver(): void
    {
        $this->isSent = false;
        $this->greeting = [];
        $this->answers = [];
    }

    /** Whether any of it is about what the connection's session holds. */
    public function isOfSession(): bool
    {
        foreach ($this->requests as $request) {
            if ($request->isOfSession) {
                return true;
            }
        }
        return false;
    }

    /** Whether the server may be sent it again, if it is not known whether it was done. */
    public function mayBeRepeated(): bool
    {
        foreach ($this->requests as $request) {
            // What was not sent was not done.
            if ($this->isSent && !$request->mayBeRepeated) {
                return false;
            }
        }
        return true;
    }

    /** @return list<Request> the greeting and the requests, as they are sent */
    public function all(): array
    {
        return $this->greeting === [] ? $this->requests : [...$this->greeting, ...$this->requests];
    }

    /** The answer to one of the requests; null: it has none. */
    public function answer(int $position): ?Answer
    {
        return $this->answers[count($this->greeting) + $position] ?? null;
    }

    /** @return list<Answer> to the requests */
    public function own(): array
    {
        return $this->greeting === [] ? $this->answers : array_slice($this->answers, count($this->greeting));
    }
}
