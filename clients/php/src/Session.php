<?php

declare(strict_types=1);

namespace Elock;

use Elock\Exception\ConnectionException;
use Elock\Exception\ElockException;
use Elock\Exception\ServerStoppingException;
use Elock\Exception\TimeoutException;
use Elock\Exception\UnsupportedException;
use Psr\Log\LoggerInterface;

/**
 * One session with a server, over as many connections as it takes: connects when first needed, resumes after a break,
 * and begins anew in a forked process.
 *
 * Invariants:
 * 1. A request that may have been done is sent again only where that makes no difference to what it is answered;
 *    `acquire` looks first whether it was.
 * 2. Whatever leaves `acquire` by an exception leaves no lock behind, as far as the server can still be asked.
 * 3. `heldTokens` is what this session took and did not give back; it is empty when the session is another one.
 *
 * @internal
 */
final class Session
{
    private const FIRST_PAUSE = 0.02;
    private const LONGEST_PAUSE = 0.5;
    private const GOODBYE = 1.0;
    private const LONGEST_NAME = 128;

    private ?Connection $connection = null;
    /** How many requests of this class's own were sent before the last ones. */
    private int $greeting = 0;
    /** By which the session is resumed; a secret. */
    private ?string $id = null;
    private bool $isHandedOn = false;
    /** @var array<string, int> token by the bytes of the key */
    private array $heldTokens = [];
    private int $pid;
    private readonly ?LoggerInterface $logger;

    /** @param non-empty-list<Address> $addresses in order of preference */
    public function __construct(private readonly array $addresses, public readonly Options $options)
    {
        $this->pid = (int)getmypid();
        $this->logger = $options->logger;
    }

    /** Locks of this session end with it, unless its id was given on. */
    public function __destruct()
    {
        $this->close();
    }

    /** Connects, if it is not. */
    public function connect(): void
    {
        $this->leaveParent();
        if ($this->connection?->isOpen() !== true) {
            $this->ask([]);
        }
    }

    /**
     * Sends these requests in one packet. On a kept connection that turns out to be gone, they are sent once more on a
     * new one: so they must not be such as a lock, which may have been granted.
     *
     * @param list<Request> $requests
     * @return list<Answer> one for each
     * @throws ElockException none came
     */
    public function ask(array $requests): array
    {
        $this->leaveParent();
        $isKept = $this->connection?->isOpen() === true;
        try {
            return $this->exchange($requests, $this->deadlineOf($requests));
        } catch (ConnectionException $broken) {
            if (!$isKept || $broken instanceof TimeoutException) {
                throw $broken;
            }
            $this->logger?->info('elock: {problem}; connecting again', ['problem' => $broken->getMessage()]);
            return $this->exchange($requests, $this->deadlineOf($requests));
        }
    }

    /**
     * Asks for a lock. While it may wait, it goes on over a break of the connection and a restart of the server, in a
     * new place in the queue.
     *
     * @return non-empty-list<Answer> to the lock, and to what was asked behind it
     * @throws ElockException there was no answer; the lock is not held, as far as the server could be asked
     */
    public function acquire(Acquisition $wanted): array
    {
        $this->leaveParent();
        if ($this->connection?->isBusy() === true) {
            throw new \LogicException('no lock can be taken in a signal handler while another request is under way');
        }
        $began = hrtime(true);
        $ends = Deadline::in($wanted->wait);
        // A connection that was kept may be gone for long, which is no reason to give up.
        $mayTryAgain = $this->connection?->isOpen() === true;
        $broken = null;
        $pause = self::FIRST_PAUSE;
        while (true) {
            try {
                if ($broken !== null) {
                    usleep((int)(min($pause, $ends->left()) * 1e6));
                    $pause = min(2 * $pause, self::LONGEST_PAUSE);
                }
                return $this->tryToAcquire($wanted, $ends, $broken === null ? null : $began);
            } catch (TimeoutException $silent) {
                $this->takeBack($wanted);
                throw $silent;
            } catch (ConnectionException | ServerStoppingException $broken) {
                if (!$mayTryAgain && $ends->isOver()) {
                    throw $broken;
                }
                $mayTryAgain = false;
                $this->logger?->info('elock: {problem}; asking again', ['problem' => $broken->getMessage()]);
            } catch (\Throwable $interrupted) {
                $this->takeBack($wanted);
                throw $interrupted;
            }
        }
    }

    /** The session's id, a secret, by which another connection or process resumes it. It outlives this object then. */
    public function id(): string
    {
        if ($this->id === null) {
            $this->id = $this->ask([Request::connId()])[0]->orThrow()->text;
        }
        $this->isHandedOn = true;
        return $this->id;
    }

    /**
     * Goes on with that session instead of this one.
     *
     * @throws ElockException it is over, or this one holds locks; this one goes on then
     */
    public function adopt(string $id): void
    {
        $this->ask([Request::resume($id)])[0]->orThrow();
        $this->id = $id;
        $this->heldTokens = [];
    }

    /** The token by which this session holds the key, as far as it knows. */
    public function heldToken(Word $key): ?int
    {
        $this->leaveParent();
        return $this->heldTokens[$key->bytes] ?? null;
    }

    public function hold(Word $key, int $token): void
    {
        $this->heldTokens[$key->bytes] = $token;
    }

    public function forget(Word ...$keys): void
    {
        foreach ($keys as $key) {
            unset($this->heldTokens[$key->bytes]);
        }
    }

    public function forgetAll(): void
    {
        $this->heldTokens = [];
    }

    /** Releases what is held, unless the session was handed on, and closes. The next request connects again. */
    public function close(): void
    {
        $this->leaveParent();
        if ($this->connection?->isOpen() === true && !$this->connection->isBusy()) {
            $isEnding = $this->heldTokens !== [] && !$this->isHandedOn;
            $this->connection->quit($isEnding ? [Request::unlockAll()] : [], Deadline::in(self::GOODBYE));
        }
        $this->connection?->close();
        $this->connection = null;
    }

    /**
     * @param int|null $began when this was first asked for, if it may have been granted without our hearing of it
     * @return non-empty-list<Answer>
     */
    private function tryToAcquire(Acquisition $wanted, Deadline $ends, ?int $began): array
    {
        if ($began !== null && $this->wasGranted($wanted, $began)) {
            return $this->granted($wanted);
        }
        $requests = [$wanted->request($ends->left()), ...$wanted->behind];
        $answers = $this->exchange($requests, $this->deadlineOf($requests));
        $isRefused = in_array($answers[0]->code, [Answer::UNAVAILABLE, Answer::DEADLOCK], true);
        // The place in the queue that was ours may have got it, before the server heard that nobody is there.
        if ($began !== null && $isRefused && $this->wasGranted($wanted, $began)) {
            return $this->granted($wanted);
        }
        return $answers;
    }

    /** @return non-empty-list<Answer> */
    private function granted(Acquisition $wanted): array
    {
        $behind = $wanted->behind === [] ? [] : $this->exchange($wanted->behind, $this->deadlineOf($wanted->behind));
        return [new Answer(Answer::OK, 'Acquired'), ...$behind];
    }

    /**
     * Whether the owner has had this lock since no earlier than that: an earlier one of the same word is another's. (A
     * session simply asks again: what it holds already is granted.)
     */
    private function wasGranted(Acquisition $wanted, int $began): bool
    {
        if ($wanted->key === null || $wanted->owner === null) {
            return false;
        }
        $elapsedMs = intdiv(hrtime(true) - $began, 1_000_000);
        $question = [Request::locks('=' . str_replace('\\', '\x5C', $wanted->key->bytes))];
        $answer = $this->exchange($question, $this->deadlineOf($question))[0];
        foreach ($answer->isOk() ? Listing::read($answer->lines, 'LOCK') : [] as $lock) {
            foreach (is_array($lock['holders'] ?? null) ? $lock['holders'] : [] as $holder) {
                if (is_array($holder) && Listing::bytes($holder, 'owner') === $wanted->owner->bytes) {
                    return ($holder['held_ms'] ?? PHP_INT_MAX) <= $elapsedMs;
                }
            }
        }
        return false;
    }

    /** After a request for a lock was given up: leaves the queue, and gives back what was granted at that moment. */
    private function takeBack(Acquisition $wanted): void
    {
        $answers = $this->connection?->withdraw(Deadline::in(self::GOODBYE)) ?? [];
        $granted = $answers[$this->greeting] ?? null;
        if ($granted?->isOk() !== true) {
            return;
        }
        try {
            $this->ask($wanted->giveBack);
        } catch (ElockException $problem) {
            $this->logger?->warning(
                'elock: a lock was granted while it was given up, and stays until its lease ends: {problem}',
                ['problem' => $problem->getMessage()],
            );
        }
    }

    /**
     * @param list<Request> $requests
     * @return list<Answer>
     */
    private function exchange(array $requests, Deadline $deadline): array
    {
        if ($this->connection?->isBusy() === true) {
            return $this->exchangeAside($requests, $deadline);
        }
        $greeting = [];
        if ($this->connection?->isOpen() !== true) {
            $this->connection = $this->open($deadline);
            $greeting[] = Request::name($this->nameWord());
        }
        if ($this->id === null && array_filter($requests, static fn (Request $one): bool => $one->isOfSession) !== []) {
            $greeting[] = Request::connId();
        }
        $this->greeting = count($greeting);
        $connection = $this->connection;
        try {
            $connection->exchange([...$greeting, ...$requests], $deadline);
        } finally {
            $answers = $connection->answered();
            $this->learn($greeting, $answers);
        }
        return array_slice($answers, $this->greeting);
    }

    /**
     * @param list<Request> $greeting
     * @param list<Answer> $answers
     */
    private function learn(array $greeting, array $answers): void
    {
        foreach ($greeting as $position => $request) {
            $answer = $answers[$position] ?? null;
            if ($answer === null) {
                return;
            }
            if ($request->isOfSession) {
                $this->id = $answer->isOk() ? $answer->text : null;
            } elseif (!$answer->isOk()) {
                // Servers that do not know names may take an owner's lock for one of the connection.
                $this->connection?->close();
                throw UnsupportedException::because("$answer->code $answer->text");
            }
        }
    }

    /** A new connection, which speaks for the session again if there was one. */
    private function open(Deadline $deadline): Connection
    {
        $connection = $this->reach($deadline);
        if ($this->id !== null) {
            $answer = $connection->exchange([Request::resume($this->id)], $deadline)[0];
            if ($answer->isOkOr(Answer::NOT_HELD)) {
                $this->logger?->info('elock: the session goes on, with what it holds');
                return $connection;
            }
            $this->logger?->warning(
                'elock: the session is over; what it held is lost: {count} locks',
                ['count' => count($this->heldTokens)],
            );
            $this->id = null;
            $this->heldTokens = [];
        }
        if ($this->options->grace !== null) {
            $graceMs = (int)ceil($this->options->grace * 1000.0);
            $connection->exchange([Request::setTimeout($graceMs)], $deadline)[0]->orThrow();
        }
        return $connection;
    }

    private function reach(Deadline $deadline): Connection
    {
        $problems = [];
        foreach ($this->addresses as $address) {
            try {
                return new Connection($address, $this->options, $deadline);
            } catch (ConnectionException $problem) {
                $problems[] = $problem->getMessage();
            }
        }
        throw new ConnectionException(implode('; ', $problems));
    }

    /**
     * What a signal handler asks while another request is under way.
     *
     * @param list<Request> $requests
     * @return list<Answer>
     */
    private function exchangeAside(array $requests, Deadline $deadline): array
    {
        foreach ($requests as $request) {
            if ($request->isOfSession) {
                throw new \LogicException(
                    'a signal handler can ask for nothing of this connection while another request is under way',
                );
            }
        }
        $connection = $this->reach($deadline);
        $answers = $connection->exchange($requests, $deadline);
        $connection->quit([], Deadline::in(self::GOODBYE));
        return $answers;
    }

    /** In a forked process: its parent's connection and locks are the parent's. */
    private function leaveParent(): void
    {
        $pid = (int)getmypid();
        if ($pid === $this->pid) {
            return;
        }
        $this->pid = $pid;
        $this->connection?->close();
        $this->connection = null;
        $this->id = null;
        $this->isHandedOn = false;
        $this->heldTokens = [];
    }

    /** @param list<Request> $requests */
    private function deadlineOf(array $requests): Deadline
    {
        $wait = array_sum(array_map(static fn (Request $request): float => $request->wait, $requests));
        return Deadline::in($wait + $this->options->timeout);
    }

    private function nameWord(): Word
    {
        $script = $_SERVER['SCRIPT_NAME'] ?? null;
        $default = gethostname() . ':' . getmypid() . ':' . (is_string($script) ? basename($script) : 'php');
        $word = Naming::Encoded->owner($this->options->name ?? $default);
        return new Word(substr($word->bytes, 0, self::LONGEST_NAME), $word->name);
    }
}
