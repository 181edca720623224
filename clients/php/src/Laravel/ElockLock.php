<?php

declare(strict_types=1);

namespace Elock\Laravel;

use Elock\Client;
use Elock\Exception\DeadlockException as Deadlock;
use Elock\Exception\ElockException;
use Elock\Exception\LostException;
use Elock\Exception\RefusedException;
use Illuminate\Cache\Lock;
use Illuminate\Contracts\Cache\LockTimeoutException;

/**
 * A lock of Laravel's that an elockd server keeps. It belongs to the word that {@see owner()} tells, in whatever
 * process, unless it is {@see boundToConnection()}.
 *
 * Any method throws an {@see ElockException} when the server cannot be asked: that a lock is not held is said only when
 * the server says so.
 */
final class ElockLock extends Lock
{
    private Hold $hold;
    private bool $isBound = false;

    /**
     * @param string $name with its prefix
     * @param mixed $seconds the lease: int, float, numeric string, \DateInterval or \DateTimeInterface; null, or 0 and
     *     less: $defaultSeconds
     * @param string|null $owner null: a word that nobody else has
     * @param int $defaultSeconds 0: such a lock ends when it is released, and not before
     * @throws \InvalidArgumentException $seconds is none of these
     * @throws \LogicException the owner is that of a lock that is bound to its connection
     */
    public function __construct(
        private readonly Client $client,
        string $name,
        mixed $seconds = 0,
        ?string $owner = null,
        private readonly int $defaultSeconds = ElockLockProvider::DEFAULT_SECONDS,
    ) {
        Seconds::of($seconds);
        $owner === null || ConnectionHold::refuseMarked($owner);
        // Laravel's classes say int, and ask no more of it than we do.
        parent::__construct($name, $seconds, $owner);
        $this->hold = new OwnerHold($client, $this->name, $this->owner, $owner === null);
    }

    /**
     * From now on this lock belongs to this process's connection, and ends with it (after the grace period, if the
     * process ends otherwise than by itself): a job that was killed leaves no lock. Without seconds, it has no other
     * limit. Only this object can release it; {@see owner()} still gives a word, by which it cannot be restored.
     *
     * @return $this
     * @throws \LogicException it is held already
     */
    public function boundToConnection(): static
    {
        if ($this->isBound) {
            return $this;
        }
        if ($this->hold->token() !== null) {
            throw new \LogicException("\"$this->name\" is held already: bind the lock before it is acquired");
        }
        $this->isBound = true;
        $this->owner = ConnectionHold::marked($this->owner);
        $this->hold = new ConnectionHold($this->client, $this->name);
        return $this;
    }

    /**
     * Takes the lock, without waiting.
     *
     * @return bool false: others hold it, or this owner does
     */
    public function acquire()
    {
        try {
            $this->hold->take(0.0, $this->lease());
            return true;
        } catch (RefusedException) {
            return false;
        }
    }

    /**
     * Takes the lock, and waits for it in the server's queue: first come, first served.
     *
     * @param mixed $seconds how long to wait at most: int, float, \DateInterval or \DateTimeInterface
     * @param callable|null $callback after which the lock is released
     * @return mixed what the callback returns; true without one
     * @throws LockTimeoutException others hold it, to the end of the wait
     * @throws DeadlockException waiting would not end
     */
    public function block($seconds, $callback = null)
    {
        $wait = max(0.0, Seconds::of($seconds));
        try {
            $this->hold->take($wait, $this->lease());
        } catch (Deadlock $deadlock) {
            throw DeadlockException::of($this->name, $deadlock, $this->client->naming());
        } catch (RefusedException $refused) {
            $waited = sprintf('the lock "%s" was not to be had within %.3F s', $this->name, $wait);
            throw new LockTimeoutException("$waited: {$refused->getMessage()}", 0, $refused);
        }
        if (!is_callable($callback)) {
            return true;
        }
        try {
            return $callback();
        } finally {
            $this->release();
        }
    }

    /**
     * Gives the lock back.
     *
     * @return bool false: it was not held any more; what was done under it may have been done beside others. Or the
     *     connection broke so that the answer was lost, and when it was asked for again, the lock was gone
     */
    public function release()
    {
        return $this->hold->release();
    }

    /**
     * Frees the lock, whoever owns it. If the connection breaks meanwhile, there is an {@see ElockException}, and it is
     * not known whether the lock was freed: to ask again could free the next one's.
     *
     * @return void
     * @throws LostException it is bound to the connection of another process: only that can free it
     */
    public function forceRelease()
    {
        try {
            $this->client->break($this->name);
        } catch (LostException $bound) {
            $this->client->unlock($this->name) || throw $bound;
        }
    }

    /**
     * Lets the lock end so many seconds from now, unless this is called again.
     *
     * @param mixed $seconds as for the constructor; null: as long as it was taken for; 0 and less: never
     * @return bool false: it is not held any more
     */
    public function refresh($seconds = null)
    {
        $lease = $seconds === null ? $this->lease() : Seconds::of($seconds);
        return $this->hold->refresh($lease);
    }

    /**
     * The fencing token: larger than that of every earlier grant of any lock. Store it with what is written under the
     * lock, and refuse to write where there is a larger one.
     *
     * @throws LostException the lock is not held
     */
    public function token(): int
    {
        return $this->hold->token() ?? throw new LostException("the lock \"$this->name\" is not held by $this->owner");
    }

    /** Whether anyone holds the lock. */
    public function isLocked(): bool
    {
        return $this->client->holder($this->name) !== null;
    }

    /**
     * Whether this object's owner holds the lock.
     *
     * @return bool
     */
    public function isOwnedByCurrentProcess()
    {
        return $this->hold->token() !== null;
    }

    /**
     * Whether this owner holds the lock.
     *
     * @param string|null $owner null: nobody
     * @return bool
     * @throws \LogicException the owner is that of another lock that is bound to its connection
     */
    public function isOwnedBy($owner)
    {
        if ($owner === null) {
            return !$this->isLocked();
        }
        if ($owner === $this->owner) {
            return $this->isOwnedByCurrentProcess();
        }
        ConnectionHold::refuseMarked($owner);
        return (new OwnerHold($this->client, $this->name, $owner))->token() !== null;
    }

    /**
     * Means nothing here, as nobody sleeps between attempts.
     *
     * @param int $milliseconds
     * @return $this
     */
    public function betweenBlockedAttemptsSleepFor($milliseconds)
    {
        return $this;
    }

    /**
     * As Laravel's own locks tell it: which of the application's connections keeps the lock. There is one.
     *
     * @return string
     */
    public function getConnectionName()
    {
        return 'default';
    }

    /** @throws \LogicException always */
    public function __serialize(): array
    {
        throw new \LogicException('a lock cannot be serialised: pass on its name and owner(), and use restoreLock()');
    }

    /**
     * Who holds the lock: a word, or `#` and the number of a session.
     *
     * @return string|null
     */
    protected function getCurrentOwner()
    {
        if ($this->isOwnedByCurrentProcess()) {
            return $this->owner;
        }
        $holder = $this->client->holder($this->name);
        return $holder === null ? null : $holder->owner ?? "#$holder->session";
    }

    /** In seconds; 0 and less: none. */
    private function lease(): float
    {
        $seconds = Seconds::of($this->seconds);
        if ($seconds > 0.0) {
            return $seconds;
        }
        return $this->isBound ? 0.0 : (float)$this->defaultSeconds;
    }
}
