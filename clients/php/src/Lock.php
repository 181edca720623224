<?php

declare(strict_types=1);

namespace Elock;

use Elock\Exception\LostException;
use Elock\Exception\RefusedException;

/**
 * A lock that was granted. It is released by {@see release()}, and not by the end of this object.
 */
final class Lock
{
    /** @internal */
    public function __construct(
        private readonly Session $session,
        private readonly Word $key,
        private readonly ?Word $owner,
        private readonly int $token,
    ) {
    }

    public function key(): string
    {
        return $this->key->name;
    }

    /**
     * The fencing token: larger than that of every earlier grant of any lock. Store it with what is written under the
     * lock, and refuse to write where there is a larger one.
     */
    public function token(): int
    {
        return $this->token;
    }

    /** Whether the server has it as this one's, at this moment. */
    public function isHeld(): bool
    {
        if ($this->owner === null && !$this->isKnown()) {
            return false;
        }
        $answer = $this->ask(Request::token($this->key, $this->owner));
        return $answer->isOkOr(Answer::NOT_HELD) && (int)$answer->text === $this->token;
    }

    /**
     * Releases it. Where this throws, it is not known whether it was released; this can be called again, and one of the
     * connection is released before the connection's next request.
     *
     * @return bool true: it was held until now. false: it was not, so what was done under it may have been done beside
     *     others; or the connection broke so that the answer to the release was lost, and when it was asked for again,
     *     the lock was gone. Which of these it was cannot be known, so take it for the worse.
     */
    public function release(): bool
    {
        // A word may have lost it, and have taken it again, perhaps in another process.
        if ($this->owner === null ? !$this->isKnown() : !$this->isHeld()) {
            return false;
        }
        $isReleased = $this->ask(Request::unlock($this->key, $this->owner))->isOkOr(Answer::NOT_HELD);
        $this->owner === null && $this->session->forget($this->key);
        return $isReleased;
    }

    /**
     * Lets it end by itself so many seconds from now, unless this is called again.
     *
     * @param float|null $seconds null or 0: never
     * @throws LostException it is not held any more
     * @throws \InvalidArgumentException less than 0
     */
    public function expire(?float $seconds): void
    {
        $this->orLost(Request::expire($this->key, Request::lease($seconds), $this->owner));
    }

    /**
     * Makes a shared lock exclusive. It does not wait.
     *
     * @throws RefusedException others share it, and it stays shared
     * @throws LostException it is not held any more
     */
    public function promote(): void
    {
        $this->orLost(Request::promote($this->key, $this->owner));
    }

    /**
     * Makes an exclusive lock a shared one, by that value.
     *
     * @throws RefusedException it is shared by another value, or is a slot
     * @throws LostException it is not held any more
     */
    public function demote(string $value): void
    {
        $value = $this->session->options->naming->value($value);
        $this->orLost(Request::demote($this->key, $value, $this->owner));
    }

    private function orLost(Request $request): void
    {
        $isOurs = $this->owner === null
            ? $this->isKnown()
            : (int)$this->ask(Request::token($this->key, $this->owner))->orThrow()->text === $this->token;
        if (!$isOurs) {
            throw new LostException("\"{$this->key->name}\" is not held any more; there may be a later grant");
        }
        $this->ask($request)->orThrow();
    }

    /** A connection may have lost it, and have taken it again by another object of this class. */
    private function isKnown(): bool
    {
        return $this->session->heldToken($this->key) === $this->token;
    }

    private function ask(Request $request): Answer
    {
        return $this->session->ask([$request])[0];
    }
}
