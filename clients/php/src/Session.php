<?php

declare(strict_types=1);

namespace Elock;

use Elock\Exception\AccessException;
use Elock\Exception\ConnectionException;
use Elock\Exception\ElockException;
use Elock\Exception\NoLeaderException;
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
 *    {@see Attempts} is for those where it does.
 * 2. A lock that was given up is not kept by the session: it owes its release, and sends that before anything else.
 * 3. `held` is what this session took and did not give back; it is empty when the session is another one.
 *
 * @internal
 */
final class Session
{
    private const GOODBYE = 1.0;
    private const LONGEST_NAME = 128;

    private ?Connection $connection = null;
    /** Which of the addresses it is at. */
    private int $reached = 0;
    /** Whoever asks now is a signal handler. */
    private bool $isUnderWay = false;
    private int $closings = 0;
    /** By which the session is resumed; a secret. */
    private ?string $id = null;
    private bool $isHandedOn = false;
    /** @var array<array-key, array{int, Word}> token and key, by the bytes of the key */
    private array $held = [];
    /** @var array<string, Request> releases of what may be held though nobody wants it, by their lines */
    private array $owed = [];
    private ?float $grace;
    private int $pid;
    private readonly ?LoggerInterface $logger;

    /** @param non-empty-list<Address> $addresses in order of preference */
    public function __construct(private readonly array $addresses, public readonly Options $options)
    {
        $this->pid = (int)getmypid();
        $this->grace = $options->grace;
        $this->logger = $options->logger;
    }

    /** Locks of this session end with it, unless its id was given on. */
    public function __destruct()
    {
        $this->close();
    }

    /** @throws \LogicException always: the end of a copy would release what the original holds */
    public function __serialize(): array
    {
        throw new \LogicException('a client, and what belongs to it, cannot be serialised: pass on names and owners');
    }

    /**
     * Without the session's id, which is a secret.
     *
     * @return array<string, mixed>
     */
    public function __debugInfo(): array
    {
        return ['addresses' => array_map(strval(...), $this->addresses), 'holds' => count($this->held)];
    }

    /** Connects, if it is not. */
    public function connect(): void
    {
        $this->leaveParent();
        $this->connection?->isOpen() === true || $this->ask([]);
    }

    /** As far as it knows: the connection may be gone. */
    public function isConnected(): bool
    {
        return $this->connection?->isClosed() === false;
    }

    /**
     * Sends these requests in one packet. On a kept connection that turns out to be gone, they are sent once more on a
     * new one, unless one of them must not be repeated; nor must a lock, which may have been granted: {@see acquire()}.
     *
     * @param list<Request> $requests
     * @return list<Answer> one for each
     * @throws ElockException none came
     */
    public function ask(array $requests): array
    {
        $this->leaveParent();
        if ($this->isUnderWay) {
            return $this->askAside($requests);
        }
        $isAsync = Signals::hold();
        try {
            return $this->askUntilAnswered($requests);
        } finally {
            Signals::letGo($isAsync);
        }
    }

    /**
     * A release is worth some patience: for as long as an answer may take, it waits for the return of a server that was
     * there. If that is in vain, the session owes it.
     *
     * @param list<Request> $requests
     * @return list<Answer>
     */
    private function askUntilAnswered(array $requests): array
    {
        $releases = array_filter($requests, static fn (Request $request): bool => $request->isRelease);
        $this->owed = array_diff_key($this->owed, self::byLine($releases));
        $mayTryAgain = $this->isConnected();
        $isPatient = ($mayTryAgain || $this->id !== null) && count($releases) === count($requests);
        $ends = Deadline::in($isPatient ? $this->options->timeout : 0.0);
        $pause = new Pause();
        while (true) {
            $asked = new Exchange($requests);
            try {
                $this->run($asked);
                return $asked->own();
            } catch (ConnectionException | ServerStoppingException $broken) {
                $isFinal = $broken instanceof TimeoutException || Signals::threw($broken) || !$asked->mayBeRepeated();
                if ($isFinal || (!$mayTryAgain && $ends->isOver())) {
                    $this->owed += self::byLine(array_filter($releases, static fn (Request $one) => $one->isOfSession));
                    throw $broken;
                }
                $this->log('info', 'elock: {problem}; connecting again', $broken);
                $mayTryAgain ? Signals::dispatch() : $pause->sleep($ends);
                $mayTryAgain = false;
            }
        }
    }

    /**
     * @param array<array-key, Request> $requests
     * @return array<string, Request>
     */
    private static function byLine(array $requests): array
    {
        return array_column(array_map(static fn (Request $one): array => [$one->line, $one], $requests), 1, 0);
    }

    /**
     * Asks for a lock. While it may wait, it goes on over a break of the connection and a restart of the server, in a
     * new place in the queue.
     *
     * @return non-empty-list<Answer> to the lock, and to what was asked behind it
     * @throws ElockException there was no answer; a session does not hold the lock then, once the server can be told so
     */
    public function acquire(Acquisition $wanted): array
    {
        $this->leaveParent();
        if ($this->isUnderWay) {
            throw new \LogicException('no lock can be taken in a signal handler while another request is under way');
        }
        $closings = $this->closings;
        $isAsync = Signals::hold();
        try {
            $answers = (new Attempts($this, $wanted))->answers();
        } finally {
            Signals::letGo($isAsync);
        }
        if ($this->closings !== $closings && $wanted->owner === null) {
            throw new ConnectionException('a signal handler closed the client, and what it held is released');
        }
        return $answers;
    }

    /**
     * Sends these requests once, on a connection that speaks for this session.
     *
     * @throws ElockException not all were answered
     */
    public function run(Exchange $asked): void
    {
        $wait = $this->options->timeout;
        foreach ($asked->requests as $request) {
            $wait += $request->wait;
        }
        $deadline = Deadline::in($wait);
        $this->isUnderWay = true;
        $first = 0;
        try {
            while (!$this->runFrom($first, $asked, $deadline)) {
                $first = $this->reached + 1;
            }
        } finally {
            $this->isUnderWay = false;
        }
    }

    /**
     * The same, if it has to connect at this address or one behind it.
     *
     * @return bool false: that server knows nobody who leads, and there is another to ask
     */
    private function runFrom(int $first, Exchange $asked, Deadline $deadline): bool
    {
        try {
            if ($this->connection?->isOpen() !== true) {
                $this->connection = null;
                $this->connection = $this->open($deadline, $first);
                $asked->greeting[] = Request::name($this->nameWord());
                if ($this->id === null && $this->grace !== null) {
                    $asked->greeting[] = Request::setTimeout(Options::graceMs($this->grace));
                }
            }
            if ($this->id === null && $asked->isOfSession()) {
                // Known before there is a lock: nobody could resume a session whose id was lost on its way.
                $asked->greeting[] = Request::connId();
                $this->greet($asked, $deadline);
            }
            foreach ($this->owed as $release) {
                $asked->greeting[] = $release;
            }
            $this->connection->run($asked, $deadline);
            return true;
        } catch (NoLeaderException $problem) {
            if (!isset($this->addresses[$this->reached + 1])) {
                throw $problem;
            }
            $asked->startOver();
            return false;
        } finally {
            $asked->greeting === [] || $this->learn($asked);
        }
    }

    /** The session's id, a secret, by which another connection or process resumes it. It outlives this object then. */
    public function id(): string
    {
        $this->leaveParent();
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
        if ($this->isUnderWay) {
            throw new \LogicException('no session can be resumed in a signal handler while a request is under way');
        }
        $this->ask([Request::resume($id)])[0]->orThrow();
        $this->id = $id;
        $this->isHandedOn = false;
        $this->forgetSession();
    }

    /** For this session, and for the one that follows if it is lost. */
    public function setGrace(float $seconds): void
    {
        $this->ask([Request::setTimeout(Options::graceMs($seconds))])[0]->orThrow();
        $this->grace = $seconds;
    }

    /** The token by which this session holds the key, as far as it knows. */
    public function heldToken(Word $key): ?int
    {
        $this->leaveParent();
        return $this->held[$key->bytes][0] ?? null;
    }

    /** @return list<Word> what it holds, as far as it knows */
    public function heldKeys(): array
    {
        return array_values(array_column($this->held, 1));
    }

    public function hold(Word $key, int $token): void
    {
        $this->held[$key->bytes] = [$token, $key];
    }

    public function forget(Word $key): void
    {
        unset($this->held[$key->bytes]);
    }

    public function forgetAll(): void
    {
        $this->held = [];
    }

    /**
     * To be released as soon as the server can be told so, unless the session held it before.
     *
     * @param list<Word> $keys
     * @param Word|null $owner one that holds them for nobody else
     */
    public function owe(array $keys, ?Word $owner): void
    {
        foreach ($keys as $key) {
            if ($owner !== null || !isset($this->held[$key->bytes])) {
                $release = Request::unlock($key, $owner);
                $this->owed[$release->line] = $release;
            }
        }
    }

    /** Releases what is held, unless the session was handed on, and closes. The next request connects again. */
    public function close(): void
    {
        $this->leaveParent();
        $this->closings++;
        if ($this->isUnderWay) {
            // By a signal handler; what was under way leaves its queue.
            $this->connection?->close();
        }
        $isAsync = Signals::hold();
        $wasUnderWay = $this->isUnderWay;
        $this->isUnderWay = true;
        try {
            $this->sayGoodbye();
        } finally {
            $this->isUnderWay = $wasUnderWay;
            $this->connection?->close();
            $this->begin();
            Signals::letGo($isAsync);
        }
    }

    /** How often it was closed. */
    public function closings(): int
    {
        return $this->closings;
    }

    public function log(string $level, string $message, \Throwable $problem): void
    {
        $this->logger?->log($level, str_replace('{problem}', $problem->getMessage(), $message));
    }

    private function sayGoodbye(): void
    {
        // With no grace period, the locks end with the connection, and the server need not remember the session.
        $goodbye = array_values($this->owedByOwners());
        if ($this->id !== null && !$this->isHandedOn) {
            $goodbye[] = Request::setTimeout(0);
        }
        $isDone = $this->connection?->isOpen() === true
            && $this->connection->quit($goodbye, Deadline::in(self::GOODBYE));
        if (!$isDone && $goodbye !== []) {
            try {
                $this->open(Deadline::in(self::GOODBYE))->quit($goodbye, Deadline::in(self::GOODBYE));
            } catch (ElockException $problem) {
                $this->log('info', 'elock: locks stay until their grace period or lease is over: {problem}', $problem);
            }
        }
    }

    /** Says what there is to say before these requests in a packet of its own. */
    private function greet(Exchange $asked, Deadline $deadline): void
    {
        $greeting = new Exchange([]);
        $greeting->greeting = $asked->greeting;
        $asked->greeting = [];
        try {
            $this->connection?->run($greeting, $deadline);
        } finally {
            $this->learn($greeting);
        }
    }

    /** From the answers to what was said before others' requests. */
    private function learn(Exchange $asked): void
    {
        foreach ($asked->greeting as $position => $request) {
            $answer = $asked->answers[$position] ?? null;
            if ($answer === null || $answer->code === Answer::STOPPING) {
                return;
            }
            if ($answer->code === Answer::UNAUTHORIZED) {
                $this->connection?->close();
                throw $answer->exception();
            }
            if ($request->isRelease) {
                if ($answer->isOk() || $answer->code === Answer::NOT_HELD) {
                    unset($this->owed[$request->line]);
                    $request->isOfSession && $request->key !== null && $this->forget($request->key);
                }
            } elseif (!$request->isOfSession && !$answer->isOk()) {
                // Servers that do not know names may take an owner's lock for one of the connection.
                $this->connection?->close();
                throw UnsupportedException::because("$answer->code $answer->text");
            } elseif ($request->line === 'conn_id') {
                $this->id = $answer->isOk() ? $answer->text : null;
            } elseif (!$answer->isOk()) {
                $this->connection?->close();
                throw $answer->exception();
            }
        }
    }

    /** A new connection, which speaks for the session again if there was one. */
    private function open(Deadline $deadline, int $first = 0): Connection
    {
        $connection = $this->reach($deadline, $first);
        if ($this->id === null) {
            $this->begin();
            return $connection;
        }
        $asked = new Exchange([Request::resume($this->id)]);
        $connection->run($asked, $deadline);
        if ($asked->own()[0]->isOkOr(Answer::NOT_HELD)) {
            $this->logger?->info('elock: the session goes on, with what it holds');
            return $connection;
        }
        $count = count($this->held);
        $count > 0 && $this->logger?->warning("elock: the session is over; what it held is lost: $count locks");
        $this->begin();
        return $connection;
    }

    /** Another session. */
    private function begin(): void
    {
        $this->connection = null;
        $this->id = null;
        $this->isHandedOn = false;
        $this->forgetSession();
    }

    /** What it held, and owed for itself; what it owes for owners, it owes as before. */
    private function forgetSession(): void
    {
        $this->held = [];
        $this->owed = $this->owedByOwners();
    }

    /** @return array<string, Request> */
    private function owedByOwners(): array
    {
        return array_filter($this->owed, static fn (Request $release): bool => !$release->isOfSession);
    }

    /** A connection that is let in, at this address or one behind it. */
    private function reach(Deadline $deadline, int $first = 0): Connection
    {
        $problems = [];
        foreach (array_slice($this->addresses, $first, null, true) as $position => $address) {
            try {
                $this->reached = $position;
                $connection = new Connection($address, $this->options, $deadline);
                $this->sayWho($address->credentials ?? $this->options->credentials, $connection, $deadline);
                return $connection;
            } catch (ConnectionException $problem) {
                $problems[] = $problem->getMessage();
            }
        }
        throw new ConnectionException(implode('; ', $problems));
    }

    /**
     * By itself: what is sent behind it may be more than a server takes while it looks at a password.
     *
     * @throws AccessException it is another
     */
    private function sayWho(?Credentials $credentials, Connection $connection, Deadline $deadline): void
    {
        if ($credentials === null) {
            return;
        }
        $asked = new Exchange([$credentials->request()]);
        $connection->run($asked, $deadline);
        if (!$asked->own()[0]->isOk()) {
            $connection->close();
            throw $asked->own()[0]->exception();
        }
    }

    /**
     * What a signal handler asks while another request is under way: by a connection of its own.
     *
     * @param list<Request> $requests
     * @return list<Answer>
     */
    private function askAside(array $requests): array
    {
        $asked = new Exchange($requests);
        if ($asked->isOfSession()) {
            throw new \LogicException(
                'while another request is under way, a signal handler can ask for nothing of this connection\'s own'
                . ' locks; for those of an owner it can',
            );
        }
        $deadline = Deadline::in($this->options->timeout);
        $connection = $this->reach($deadline);
        $connection->run($asked, $deadline);
        $connection->quit([], Deadline::in(self::GOODBYE));
        return $asked->own();
    }

    /** In a forked process: its parent's connection and locks are the parent's. */
    private function leaveParent(): void
    {
        $pid = (int)getmypid();
        if ($pid === $this->pid) {
            return;
        }
        $this->pid = $pid;
        $this->connection?->leaveToParent();
        $this->isUnderWay = false;
        $this->begin();
        $this->owed = [];
    }

    private function nameWord(): Word
    {
        $script = $_SERVER['SCRIPT_NAME'] ?? null;
        $default = gethostname() . ':' . getmypid() . ':' . (is_string($script) ? basename($script) : 'php');
        $word = Naming::Encoded->owner($this->options->name ?? $default);
        return new Word(substr($word->bytes, 0, self::LONGEST_NAME), $word->name);
    }
}
