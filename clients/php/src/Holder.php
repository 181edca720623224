<?php

declare(strict_types=1);

namespace Elock;

use Elock\Exception\ElockException;
use Elock\Exception\LostException;
use Elock\Exception\RefusedException;

/**
 * Who takes locks: a connection ({@see Client}), whose locks end with it, or an owner ({@see Owner}), whose locks
 * belong to a word. All times are in seconds. Any method may throw an {@see ElockException} when the server cannot be
 * asked; what is listed with a method is thrown for its own reasons.
 */
abstract class Holder
{
    /** @internal */
    public function __construct(
        protected readonly Session $session,
        protected readonly ?Word $owner,
    ) {
    }

    /**
     * Takes the lock for itself alone.
     *
     * @param float $wait how long to wait in the queue if others hold it; 0: not at all
     * @param float|null $lease after which it ends by itself, unless {@see Lock::expire()} is called before; null or 0:
     *     not
     * @throws RefusedException others hold it, to the end of the wait; or it would be a deadlock
     * @throws \InvalidArgumentException the lease is less than 0
     */
    public function lock(string $key, float $wait = 0.0, ?float $lease = null): Lock
    {
        $key = $this->naming()->key($key);
        $behind = $this->behind($key, $lease);
        return $this->take($key, Acquisition::lock($key, $wait, $this->owner, $this->leaseMs($lease), ...$behind));
    }

    /**
     * Shares the lock with all who give the same value: readers do, and {@see lock()} is for the writer.
     *
     * @param float $wait how long to wait in the queue
     * @param float|null $lease as for {@see lock()}
     * @throws RefusedException as for {@see lock()}
     */
    public function lockValue(string $key, string $value, float $wait = 0.0, ?float $lease = null): Lock
    {
        [$key, $value] = [$this->naming()->key($key), $this->naming()->value($value)];
        $behind = $this->behind($key, $lease);
        $leaseMs = $this->leaseMs($lease);
        return $this->take($key, Acquisition::value($key, $value, $wait, $this->owner, $leaseMs, ...$behind));
    }

    /**
     * Takes one of so many slots of the key.
     *
     * @param int $slots how many may hold it at a time; each request brings its own number
     * @param float $wait how long to wait in the queue
     * @param float|null $lease as for {@see lock()}
     * @throws RefusedException as for {@see lock()}
     */
    public function lockSlot(string $key, int $slots, float $wait = 0.0, ?float $lease = null): Lock
    {
        $key = $this->naming()->key($key);
        $behind = $this->behind($key, $lease);
        $leaseMs = $this->leaseMs($lease);
        return $this->take($key, Acquisition::slot($key, $slots, $wait, $this->owner, $leaseMs, ...$behind));
    }

    /**
     * The lock that is held already: by this owner, in whatever process it was taken, or by a resumed session.
     *
     * @throws LostException it is not held
     */
    public function held(string $key): Lock
    {
        $key = $this->naming()->key($key);
        $token = (int)$this->ask(Request::token($key, $this->owner))->orThrow()->text;
        return $this->lockOf($key, $token);
    }

    /** Releases the lock; false if it was not held. */
    public function unlock(string $key): bool
    {
        $key = $this->naming()->key($key);
        $isReleased = $this->ask(Request::unlock($key, $this->owner))->isOkOr(Answer::NOT_HELD);
        $this->owner === null && $this->session->forget($key);
        return $isReleased;
    }

    protected function naming(): Naming
    {
        return $this->session->options->naming;
    }

    protected function ask(Request $request): Answer
    {
        return $this->session->ask([$request])[0];
    }

    /** @throws RefusedException this connection holds it already, by another {@see Lock} */
    protected function refuseTwice(Word $key): void
    {
        $known = $this->owner === null ? $this->session->heldToken($key) : null;
        if ($known === null) {
            return;
        }
        // The server would grant it once more, and then one release would free both.
        $answer = $this->ask(Request::token($key));
        if ($answer->isOkOr(Answer::NOT_HELD) && (int)$answer->text === $known) {
            throw new RefusedException("\"$key->name\" is held already, by another lock of this connection");
        }
        $this->session->forget($key);
    }

    protected function lockOf(Word $key, int $token): Lock
    {
        $this->owner === null && $this->session->hold($key, $token);
        return new Lock($this->session, $key, $this->owner, $token);
    }

    /**
     * @param non-empty-list<Word> $keys
     * @param non-empty-list<Answer> $answers to the request for them, to what was asked behind it, and for their tokens
     * @return non-empty-list<Lock>
     */
    protected function granted(array $keys, array $answers): array
    {
        $answers[0]->isOk() || throw $answers[0]->exception($this->session->heldKeys());
        try {
            foreach ($answers as $answer) {
                $answer->orThrow();
            }
        } catch (ElockException $problem) {
            // Of several, some may have ended already; or there is one without the lease that it is to have.
            $this->session->ask(array_map(fn (Word $key): Request => Request::unlock($key, $this->owner), $keys));
            throw $problem;
        }
        $locks = [];
        foreach (array_slice($answers, -count($keys)) as $position => $token) {
            $locks[] = $this->lockOf($keys[$position], (int)$token->text);
        }
        return $locks;
    }

    private function take(Word $key, Acquisition $wanted): Lock
    {
        $this->refuseTwice($key);
        return $this->granted([$key], $this->acquire($wanted))[0];
    }

    /** @return non-empty-list<Answer> */
    protected function acquire(Acquisition $wanted): array
    {
        return $this->session->acquire($wanted);
    }

    /**
     * The lease of a session's lock is asked for behind it, and the token of any.
     *
     * @return list<Request>
     */
    private function behind(Word $key, ?float $lease): array
    {
        $token = Request::token($key, $this->owner);
        $leaseMs = Request::lease($lease);
        return $this->owner === null && $leaseMs > 0 ? [Request::expire($key, $leaseMs), $token] : [$token];
    }

    private function leaseMs(?float $lease): int
    {
        return $this->owner === null ? 0 : Request::lease($lease);
    }
}
