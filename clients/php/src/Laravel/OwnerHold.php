<?php

declare(strict_types=1);

namespace Elock\Laravel;

use Elock\Acquisition;
use Elock\Answer;
use Elock\Client;
use Elock\Request;
use Elock\Word;

/**
 * A lock that belongs to a word: any process that knows the word can renew and release it.
 *
 * @internal
 */
final class OwnerHold implements Hold
{
    private readonly Word $key;
    private readonly Word $owner;

    /** @param bool $isNew whether the word was made for this lock, and nobody else has it yet */
    public function __construct(
        private readonly Client $client,
        string $name,
        string $owner,
        private bool $isNew = false,
    ) {
        $this->key = $client->naming()->key($name);
        $this->owner = $client->naming()->owner($owner);
    }

    public function take(float $wait, float $lease): void
    {
        $wanted = Acquisition::lock($this->key, $wait, $this->owner, Request::milliseconds($lease));
        $this->client->acquire($this->isNew ? $wanted->byNewOwner() : $wanted)[0]->orThrow();
        $this->isNew = false;
    }

    public function release(): bool
    {
        return $this->ask(Request::unlock($this->key, $this->owner))->isOk();
    }

    public function refresh(float $lease): bool
    {
        return $this->ask(Request::expire($this->key, Request::milliseconds($lease), $this->owner))->isOk();
    }

    public function token(): ?int
    {
        $answer = $this->ask(Request::token($this->key, $this->owner));
        return $answer->isOk() ? (int)$answer->text : null;
    }

    /** It is held, or it is not; any other answer is thrown. */
    private function ask(Request $request): Answer
    {
        $answer = $this->client->send($request)[0];
        $answer->isOkOr(Answer::NOT_HELD);
        return $answer;
    }
}
