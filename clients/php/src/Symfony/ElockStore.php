<?php

declare(strict_types=1);

namespace Elock\Symfony;

use Elock\Acquisition;
use Elock\Answer;
use Elock\Client;
use Elock\Deadline;
use Elock\Exception\ConnectionException;
use Elock\Exception\DeadlockException;
use Elock\Exception\ElockException;
use Elock\Exception\ServerStoppingException;
use Elock\Exception\TimeoutException;
use Elock\Request;
use Elock\Word;
use Symfony\Component\Lock\BlockingSharedLockStoreInterface;
use Symfony\Component\Lock\BlockingStoreInterface;
use Symfony\Component\Lock\Exception\InvalidTtlException;
use Symfony\Component\Lock\Exception\LockConflictedException;
use Symfony\Component\Lock\Exception\LockExpiredException;
use Symfony\Component\Lock\Exception\LockStorageException;
use Symfony\Component\Lock\Key;
use Symfony\Component\Lock\Store\ExpiringStoreTrait;

/**
 * Symfony's locks by elock. A lock belongs to a word in its key, and to no connection: the key can be serialised, and
 * the lock refreshed and released by another process. A lock that nobody refreshes ends with its lease, the TTL.
 *
 * Every method throws {@see LockStorageException} when the server cannot be asked, or does not do what it is asked for
 * other reasons than that somebody else has the lock; it is not known then whether the lock is held.
 *
 *     $store = new ElockStore(new Client('tcp://127.0.0.1:11400'));
 *     $lock = (new LockFactory($store))->createLock('report', ttl: 30);
 *     $lock->acquire(blocking: true);
 */
final class ElockStore implements BlockingStoreInterface, BlockingSharedLockStoreInterface
{
    use ExpiringStoreTrait;

    /**
     * Where a key's owner word is: one name for all stores of this class, so that a key means the same owner wherever
     * it goes. It stays there when the lock is released, since other servers of a CombinedStore may still hold it.
     */
    private const STATE = self::class;
    /** What readers have in common: the value of `lock_value`. */
    private const READERS = 'r';
    /**
     * How long one request waits in the queue, in seconds. A server that vanished without a word is noticed after that,
     * and the place in the queue is a new one.
     */
    private const LONGEST_REQUEST = 600.0;
    /** How long one who waits waits for a server that is away, in seconds. */
    private const LONGEST_ABSENCE = 10.0;
    /**
     * For how long a request that is to wait asks at first, in seconds. Longer than the others' leases, it would wait
     * for those to end where it should be told that it is a deadlock; without a wait, it is not told of its own lock.
     */
    private const SHORTEST_REQUEST = 0.001;
    /** Between two tries to promote, for which the server has no queue; in microseconds. */
    private const PROMOTION_PAUSE = [20_000, 60_000];

    /**
     * @param float $initialTtl the lease with which a lock begins, in seconds. No TTL should be longer than the
     *     server's longest hold (`--max-hold-ms`), if it has one: it cuts leases to that, and keys are not told
     * @param float|null $longestWait how long {@see waitAndSave()} and {@see waitAndSaveRead()} wait at most, in
     *     seconds; null: until the lock is had, as Symfony has it
     * @throws InvalidTtlException one of them is not more than 0
     */
    public function __construct(
        private readonly Client $client,
        private readonly float $initialTtl = 300.0,
        private readonly ?float $longestWait = null,
    ) {
        if (!($initialTtl > 0.0)) {
            throw new InvalidTtlException("the TTL is more than 0 seconds, and not $initialTtl");
        }
        if ($longestWait !== null && !($longestWait > 0.0)) {
            throw new InvalidTtlException("the longest wait is more than 0 seconds, and not $longestWait");
        }
    }

    /**
     * Takes the lock exclusively, promotes it if this key has it as a reader, or renews it.
     *
     * @throws LockConflictedException others have it; a {@see LockDeadlockException} if they wait for this process
     * @throws LockExpiredException it took longer than the TTL, and was given back
     */
    public function save(Key $key): void
    {
        $refusal = $this->tryToSave($key, true);
        if ($refusal !== null) {
            throw $refusal;
        }
    }

    /**
     * Takes the lock as one of its readers, demotes it if this key has it exclusively, or renews it.
     *
     * @throws LockConflictedException others have it exclusively, or wait for it; a {@see LockDeadlockException} if
     *     they wait for this process
     * @throws LockExpiredException it took longer than the TTL, and was given back
     */
    public function saveRead(Key $key): void
    {
        $refusal = $this->tryToSave($key, false);
        if ($refusal !== null) {
            throw $refusal;
        }
    }

    /**
     * As {@see save()}, and waits for its turn in the server's queue: first come, first served. The TTL begins with the
     * grant. A reader that is to be promoted keeps what it has, and waits outside of the queue until no other reader is
     * left; two who do that wait for each other for as long as the leases of both last.
     *
     * @throws LockConflictedException the longest wait is over; or a {@see LockDeadlockException}
     * @throws LockExpiredException the lease of a reader ended while it waited to be promoted
     */
    public function waitAndSave(Key $key): void
    {
        $this->waitFor($key, true);
    }

    /**
     * As {@see saveRead()}, and waits for its turn in the server's queue; the TTL begins with the grant.
     *
     * @throws LockConflictedException the longest wait is over; or a {@see LockDeadlockException}
     */
    public function waitAndSaveRead(Key $key): void
    {
        $this->waitFor($key, false);
    }

    /**
     * Lets the lock end by itself so many seconds from now.
     *
     * @param float $ttl in seconds
     * @throws LockConflictedException this key does not have the lock, or no longer
     * @throws LockExpiredException it took longer than the TTL, and was given back
     */
    public function putOffExpiration(Key $key, float $ttl): void
    {
        $owner = $this->knownOwner($key);
        if ($owner === null) {
            throw new LockConflictedException("this key never had the lock \"$key\"");
        }
        $key->reduceLifetime($ttl);
        // A TTL that rounds to 0 would be no limit at all.
        $leaseMs = max(1, Request::milliseconds($ttl));
        $this->isHeld($this->ask(Request::expire($this->word($key), $leaseMs, $owner)))
            || throw new LockConflictedException("the lock \"$key\" is not this key's any more");
        $this->checkNotExpired($key);
    }

    /** Releases the lock, if this key has it. */
    public function delete(Key $key): void
    {
        $owner = $this->knownOwner($key);
        if ($owner !== null) {
            $this->isHeld($this->ask(Request::unlock($this->word($key), $owner)));
        }
    }

    /** Whether this key has the lock at this moment, as the server knows it. */
    public function exists(Key $key): bool
    {
        $owner = $this->knownOwner($key);
        return $owner !== null && $this->isHeld($this->ask(Request::token($this->word($key), $owner)));
    }

    /**
     * The fencing token of a lock that this key has: larger than that of every earlier grant of any lock by this
     * server. Store it with what is written under the lock, and refuse to write where there is a larger one. Tokens of
     * several servers, as in a CombinedStore, cannot be compared.
     *
     * @throws LockConflictedException this key does not have the lock, or no longer
     */
    public function token(Key $key): int
    {
        $owner = $this->knownOwner($key);
        $answer = $owner === null ? null : $this->ask(Request::token($this->word($key), $owner));
        if ($answer === null || !$this->isHeld($answer)) {
            throw new LockConflictedException("the lock \"$key\" is not this key's, or not any more");
        }
        return (int)$answer->text;
    }

    private function waitFor(Key $key, bool $isWriter): void
    {
        $ends = Deadline::in($this->longestWait ?? INF);
        // One that is made here stays this key's alone while this waits.
        $isNew = $this->knownOwner($key) === null;
        while (($refusal = $this->tryToSaveOrWait($key, $isWriter)) !== null) {
            if ($refusal instanceof LockNotPromotedException) {
                $this->waitForOthers($key, $isWriter, $ends, $refusal);
                return;
            }
            if ($refusal instanceof LockDeadlockException || ($ends->isOver() && !self::isAway($refusal))) {
                throw $refusal;
            }
            $longest = self::isAway($refusal) ? self::LONGEST_ABSENCE : self::LONGEST_REQUEST;
            $wanted = $this->wanted($key, $isWriter, min($ends->left(), $longest));
            $answer = $this->acquire($isNew ? $wanted->byNewOwner() : $wanted)[0];
            if ($this->isOkOr($answer, Answer::UNAVAILABLE, Answer::DEADLOCK)) {
                $this->confirm($key);
                return;
            }
            if ($answer->code === Answer::DEADLOCK) {
                throw $this->refusal($key, $answer);
            }
        }
    }

    /**
     * The same for one who waits: for the return of a server, too, by the request that follows.
     *
     * @return LockConflictedException|null why the lock is not to be had at this moment; null: it is had
     */
    private function tryToSaveOrWait(Key $key, bool $isWriter): ?LockConflictedException
    {
        try {
            return $this->tryToSave($key, $isWriter, self::SHORTEST_REQUEST);
        } catch (LockStorageException $problem) {
            if (!self::isAway($problem)) {
                throw $problem;
            }
            return new LockConflictedException($problem->getMessage(), 0, $problem->getPrevious());
        }
    }

    /** Whether the server could not be reached, or stops: it may be restarted. */
    private static function isAway(\Throwable $problem): bool
    {
        $reason = $problem->getPrevious();
        $isUnreachable = $reason instanceof ConnectionException && !$reason instanceof TimeoutException;
        return $isUnreachable || $reason instanceof ServerStoppingException;
    }

    /** @return LockConflictedException|null why the lock is not to be had at this moment; null: it is had */
    private function tryToSave(Key $key, bool $isWriter, float $wait = 0.0): ?LockConflictedException
    {
        $mayHaveIt = $this->knownOwner($key) !== null;
        $began = hrtime(true);
        $wanted = $this->wanted($key, $isWriter, $wait, $mayHaveIt);
        $answers = $this->acquire($mayHaveIt ? $wanted : $wanted->byNewOwner());
        if ($this->isOkOr($answers[0], Answer::UNAVAILABLE, Answer::DEADLOCK)) {
            $key->reduceLifetime($this->initialTtl - (hrtime(true) - $began) / 1e9);
            $this->checkNotExpired($key);
            return null;
        }
        $changed = $answers[1] ?? null;
        if ($changed === null || !$this->isOkOr($changed, Answer::UNAVAILABLE, Answer::NOT_HELD)) {
            return $changed?->code === Answer::UNAVAILABLE
                ? new LockNotPromotedException("others share the lock \"$key\" with this key")
                : $this->refusal($key, $answers[0]);
        }
        try {
            // Not in the same packet: where others share the lock, it would set the lease of what this key keeps.
            $this->putOffExpiration($key, $this->initialTtl);
            return null;
        } catch (LockConflictedException $lost) {
            return $lost;
        }
    }

    /** Until no others share the lock, of which this key has a part. */
    private function waitForOthers(Key $key, bool $isWriter, Deadline $ends, LockNotPromotedException $refusal): void
    {
        do {
            if ($ends->isOver()) {
                throw $refusal;
            }
            usleep((int)min(random_int(...self::PROMOTION_PAUSE), ceil($ends->left() * 1e6)));
            $answer = $this->ask($this->change($key, $isWriter));
            if ($answer->code === Answer::NOT_HELD) {
                // Somebody may have written meanwhile: to take it anew would be no promotion.
                throw new LockExpiredException("the lock \"$key\" ended while it waited to be promoted");
            }
        } while (!$this->isOkOr($answer, Answer::UNAVAILABLE));
        $this->putOffExpiration($key, $this->initialTtl);
    }

    /** When the answer is read, the lease may have begun long ago, and even be over. */
    private function confirm(Key $key): void
    {
        try {
            $this->putOffExpiration($key, $this->initialTtl);
        } catch (\Throwable $problem) {
            try {
                $this->delete($key);
            } catch (LockStorageException) {
                // It ends with its lease; the first problem is what is told.
            }
            throw $problem;
        }
    }

    /** @param bool $mayHaveIt whether this key may have the lock already, perhaps in the other mode */
    private function wanted(Key $key, bool $isWriter, float $wait, bool $mayHaveIt = false): Acquisition
    {
        [$word, $owner] = [$this->word($key), $this->owner($key)];
        $leaseMs = Request::milliseconds($this->initialTtl);
        $behind = $mayHaveIt ? [$this->change($key, $isWriter)] : [];
        return $isWriter
            ? Acquisition::lock($word, $wait, $owner, $leaseMs, ...$behind)
            : Acquisition::value($word, $this->readers(), $wait, $owner, $leaseMs, ...$behind);
    }

    /** What makes a lock that this key has one of that mode. */
    private function change(Key $key, bool $isWriter): Request
    {
        [$word, $owner] = [$this->word($key), $this->owner($key)];
        return $isWriter ? Request::promote($word, $owner) : Request::demote($word, $this->readers(), $owner);
    }

    private function refusal(Key $key, Answer $answer): LockConflictedException
    {
        $reason = $answer->exception();
        return $reason instanceof DeadlockException
            ? new LockDeadlockException($reason, $this->client->naming())
            : new LockConflictedException("others have the lock \"$key\"", 0, $reason);
    }

    private function word(Key $key): Word
    {
        return $this->client->naming()->key((string)$key);
    }

    private function readers(): Word
    {
        return $this->client->naming()->value(self::READERS);
    }

    private function owner(Key $key): Word
    {
        $owner = $this->knownOwner($key);
        if ($owner === null) {
            $key->setState(self::STATE, bin2hex(random_bytes(16)));
            $owner = $this->knownOwner($key);
        }
        return $owner ?? throw new \LogicException('a key forgot its state');
    }

    /** Null: this key never asked for a lock. */
    private function knownOwner(Key $key): ?Word
    {
        $owner = $key->hasState(self::STATE) ? $key->getState(self::STATE) : null;
        return is_string($owner) ? $this->client->naming()->owner($owner) : null;
    }

    private function isHeld(Answer $answer): bool
    {
        return $this->isOkOr($answer, Answer::NOT_HELD);
    }

    private function isOkOr(Answer $answer, int ...$codes): bool
    {
        return self::stored(static fn (): bool => $answer->isOkOr(...$codes));
    }

    private function ask(Request $request): Answer
    {
        return self::stored(fn (): array => $this->client->send($request))[0];
    }

    /** @return non-empty-list<Answer> */
    private function acquire(Acquisition $wanted): array
    {
        return self::stored(fn (): array => $this->client->acquire($wanted));
    }

    /**
     * @template T
     * @param \Closure(): T $question
     * @return T
     */
    private static function stored(\Closure $question): mixed
    {
        try {
            return $question();
        } catch (ElockException $problem) {
            throw new LockStorageException($problem->getMessage(), 0, $problem);
        }
    }
}
