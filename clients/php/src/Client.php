<?php

declare(strict_types=1);

namespace Elock;

use Elock\Exception\ConnectionException;
use Elock\Exception\ElockException;
use Elock\Exception\LostException;
use Elock\Exception\RefusedException;
use Elock\Exception\ServerException;

/**
 * A connection to an elockd server, and what it holds. It connects when it is first used; resumes its session when
 * the connection broke, so that locks outlive that; and begins anew in a forked process (with `elocks://`, the end of
 * such a process ends its parent's connection, too, which the parent then resumes).
 *
 *     $client = Client::connect('tcp://127.0.0.1:11400');
 *     $lock = $client->lock('report', wait: 60);
 *     try {
 *         makeReport($lock->token());
 *     } finally {
 *         $lock->release();
 *     }
 *
 * Its locks are released at the end of this object; if the process ends in another way, when the grace period is
 * over. Locks of an {@see owner()} are not touched by that.
 */
final class Client extends Holder
{
    /**
     * @param string|Address|non-empty-list<string|Address> $addresses as in {@see Address}; several in order of
     *     preference, which all lead to one server, or to the one that takes its place: another server knows nothing of
     *     what is held
     */
    public function __construct(
        #[\SensitiveParameter]
        string|Address|array $addresses = 'tcp://127.0.0.1:11400',
        ?Options $options = null,
    ) {
        $addresses = array_map(
            static fn (string|Address $one): Address => is_string($one) ? Address::parse($one) : $one,
            is_array($addresses) ? array_values($addresses) : [$addresses],
        );
        if ($addresses === []) {
            throw new \InvalidArgumentException('at least one address of a server');
        }
        parent::__construct(new Session($addresses, $options ?? new Options()), null);
    }

    /**
     * A client that is connected already, so that a server that is not there is noticed here, and at once. `new Client`
     * connects when it is first used, and then a `lock` with a wait outlasts the restart of a server, too.
     *
     * @param string|Address|non-empty-list<string|Address> $addresses as in {@see Address}; several in order of
     *     preference
     * @throws ElockException there is no server
     */
    public static function connect(
        #[\SensitiveParameter]
        string|Address|array $addresses = 'tcp://127.0.0.1:11400',
        ?Options $options = null,
    ): self {
        $client = new self($addresses, $options);
        $client->session->connect();
        return $client;
    }

    /**
     * Locks that belong to this word.
     *
     * @param string|null $word null: one that nobody else has
     */
    public function owner(?string $word = null): Owner
    {
        $isNew = $word === null;
        return new Owner($this->session, $this->naming()->owner($word ?? bin2hex(random_bytes(16))), $isNew);
    }

    /**
     * Takes all of these locks, or none: in whatever order they are named, two such requests never wait for each other
     * for ever.
     *
     * @param list<string> $keys
     * @param float $wait how long to wait for all of them together
     * @return list<Lock> one for each key, in that order; a key that is named twice is one
     * @throws RefusedException others hold one of them, to the end of the wait; or it would be a deadlock
     */
    public function lockAll(array $keys, float $wait = 0.0): array
    {
        $words = array_map($this->naming()->key(...), array_values(array_unique($keys)));
        if ($words === []) {
            return [];
        }
        array_map($this->refuseTwice(...), $words);
        $tokens = array_map(static fn (Word $key): Request => Request::token($key), $words);
        return $this->granted($words, $this->session->acquire(Acquisition::all($words, $wait, ...$tokens)));
    }

    /** Releases all locks of this connection. */
    public function unlockAll(): void
    {
        $this->ask(Request::unlockAll())->orThrow();
        $this->session->forgetAll();
    }

    /**
     * Frees a lock that owners hold, whoever they are. If the connection breaks meanwhile, it is not asked for again:
     * that could free the next one's lock.
     *
     * @return bool whether owners held it
     * @throws LostException a connection holds it: only that can free it
     * @throws ConnectionException it broke, and whether the lock was freed is not known
     */
    public function break(string $key): bool
    {
        $answer = $this->ask(Request::break($this->naming()->key($key)));
        if ($answer->code === Answer::NOT_HELD && $answer->text !== 'not_locked') {
            throw $answer->exception();
        }
        return $answer->isOkOr(Answer::NOT_HELD);
    }

    /**
     * Takes a lock from whoever has it, connections and owners: theirs throws a {@see LostException} when it is used.
     * If the connection breaks meanwhile, it is not asked for again: that could take the next one's lock.
     *
     * @return bool whether anyone held it
     * @throws ConnectionException it broke, and whether the lock was taken is not known
     */
    public function forceUnlock(string $key): bool
    {
        return $this->ask(Request::forceUnlock($this->naming()->key($key)))->isOkOr(Answer::NOT_HELD);
    }

    /**
     * Ends a session: its connection is ended, and what it holds is free.
     *
     * @param string $who `#` and its number, or its name
     * @throws LostException there is none, or it is over; or several are called so, as the message says
     * @throws ConnectionException it broke, and whether the session was ended is not known
     */
    public function kick(string $who): void
    {
        $this->ask(Request::kick($who))->orThrow();
    }

    /** Who holds the key; null: nobody. */
    public function holder(string $key): ?KeyHolder
    {
        return $this->watched(Request::watch($this->naming()->key($key)));
    }

    /**
     * Who holds the key, as soon as that is somebody else than the one who is known, or at the end of the wait.
     *
     * @param KeyHolder|null $known null: nobody
     */
    public function nextHolder(string $key, ?KeyHolder $known, float $wait): ?KeyHolder
    {
        $state = $known === null ? 'free' : (string)$known->token;
        return $this->watched(Request::watch($this->naming()->key($key), $state, $wait));
    }

    /**
     * How long locks of this connection outlive it when it breaks, from now on.
     *
     * @throws \InvalidArgumentException it is less than 0, or more than ten years
     */
    public function setGrace(float $seconds): void
    {
        $this->session->setGrace($seconds);
    }

    /**
     * This session's id, a secret: whoever has it can go on with the session, in another process too. From now on the
     * end of this object releases nothing; the locks live on for the grace period.
     */
    public function sessionId(): string
    {
        return $this->session->id();
    }

    /**
     * Goes on with that session, and what it holds: {@see held()} tells. It ends with this object from now on.
     *
     * @throws LostException it is over, or this connection holds locks
     */
    public function resume(string $sessionId): void
    {
        $this->session->adopt($sessionId);
    }

    /**
     * The server in numbers.
     *
     * @return array<string, string>
     */
    public function info(): array
    {
        $info = [];
        foreach ($this->ask(Request::info())->orThrow()->lines as $line) {
            [$name, $value] = explode(' ', $line, 2) + [1 => ''];
            $info[$name] = $value;
        }
        return $info;
    }

    /**
     * What is held, and who waits, in the order of the keys. The members of each are in protocol.md.
     *
     * @param string $prefix only keys that begin so
     * @return \Generator<int, array<string, mixed>>
     */
    public function locks(string $prefix = ''): \Generator
    {
        $prefix = $prefix === '' ? '*' : self::escaped($this->naming()->key($prefix)->bytes);
        $after = null;
        do {
            $lines = $this->ask(Request::locks($prefix, $after))->orThrow()->lines;
            foreach (Listing::read($lines, 'LOCK') as $lock) {
                yield $lock;
            }
            $after = Listing::next($lines);
        } while ($after !== null);
    }

    /**
     * The sessions, in the order of their numbers. The members of each are in protocol.md.
     *
     * @return \Generator<int, array<string, mixed>>
     */
    public function sessions(): \Generator
    {
        $after = 0;
        do {
            $lines = $this->ask(Request::sessions((int)$after))->orThrow()->lines;
            foreach (Listing::read($lines, 'SESSION') as $session) {
                yield $session;
            }
            $after = Listing::next($lines);
        } while ($after !== null);
    }

    /**
     * Three counters: `clients`, `locks`, `monitoring`.
     *
     * @return array<string, int>
     */
    public function stats(): array
    {
        $stats = [];
        foreach ($this->ask(Request::stats())->orThrow()->lines as $line) {
            [, $name, $value] = explode(' ', $line) + ['', '', '0'];
            $stats[$name] = (int)$value;
        }
        return $stats;
    }

    /**
     * All sessions, locks and waiting requests, as lines for people.
     *
     * @return list<string>
     */
    public function debug(): array
    {
        return $this->ask(Request::debug())->orThrow()->lines;
    }

    /**
     * Has the server give no new locks, and stop when none is held, or its time for that is over.
     */
    public function drain(): void
    {
        $this->ask(Request::drain())->orThrow();
    }

    /**
     * Has another of several servers on etcd lead. The connection ends then, and the next request connects again.
     *
     * @throws ElockException the server is alone, or the user may not do that
     */
    public function failover(): void
    {
        $this->ask(Request::failover())->orThrow();
    }

    /**
     * The server's commands, a line for each.
     *
     * @return list<string>
     */
    public function help(): array
    {
        return $this->ask(Request::help())->orThrow()->lines;
    }

    /**
     * Sends requests as they are, in one packet, and gives their answers: for what has no method here. They may be sent
     * twice, when the connection turns out to be gone; so ask for locks by {@see acquire()}.
     *
     * @return list<Answer>
     */
    public function send(Request ...$requests): array
    {
        return $this->session->ask(array_values($requests));
    }

    /**
     * Asks for a lock, and gives the answers to it and to what was asked behind it: what {@see lock()} and its kin
     * stand on, for adapters.
     *
     * @return non-empty-list<Answer>
     */
    public function acquire(Acquisition $wanted): array
    {
        return $this->session->acquire($wanted);
    }

    /** How this client sends names. */
    public function naming(): Naming
    {
        return parent::naming();
    }

    /** Releases what this connection holds, and closes it. The next request connects again. */
    public function close(): void
    {
        $this->session->close();
    }

    private function watched(Request $request): ?KeyHolder
    {
        $text = $this->ask($request)->orThrow()->text;
        if ($text === 'free') {
            return null;
        }
        if (!preg_match('/^(\d+) held by (?:#(\d+)|@(.*))$/s', $text, $found, PREG_UNMATCHED_AS_NULL)) {
            throw new ServerException("no holder where one should be: $text");
        }
        $owner = $found[3] === null ? null : Naming::Encoded->name(self::unescaped($found[3]));
        return new KeyHolder((int)$found[1], $found[2] === null ? null : (int)$found[2], $owner);
    }

    /** The bytes for which a word stands that is shown to people: `\xNN` is one. */
    private static function unescaped(string $word): string
    {
        $byte = fn(array $found): string => chr((int)hexdec($found[1]));
        return preg_replace_callback('/\\\\x([0-9A-Fa-f]{2})/', $byte, $word) ?? $word;
    }

    /** For a word in which `\xNN` stands for a byte, and `*` and `=` at its beginning for something else. */
    private static function escaped(string $word): string
    {
        $word = str_replace('\\', '\x5C', $word);
        return in_array($word[0], ['*', '='], true) ? sprintf('\x%02X', ord($word[0])) . substr($word, 1) : $word;
    }
}
