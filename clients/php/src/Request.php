<?php

declare(strict_types=1);

namespace Elock;

/**
 * One line to the server. There is a function for each command of the protocol (`protocol.md`), in the
 * order in which it describes them.
 */
final class Request
{
    private const LONGEST_LEASE_MS = 315_360_000_000;
    private const LONGEST_WAIT = 4_294_967.0;

    private function __construct(
        /** The line, without its end. */
        public readonly string $line,
        /** How long the server may take for it because others hold a lock, in seconds. */
        public readonly float $wait = 0.0,
        /** Whether more lines follow a `200`, up to `END`. */
        public readonly bool $isList = false,
        /** Whether it is about what the connection's session holds; so not about an owner, and no question. */
        public readonly bool $isOfSession = false,
        /** The key that it is about, if it is one. */
        public readonly ?Word $key = null,
        /** Whether it does the same when it is done twice. */
        public readonly bool $mayBeRepeated = true,
        /** Whether it gives back one lock. */
        public readonly bool $isRelease = false,
    ) {
    }

    /**
     * @param float $wait how long to wait if others hold the lock, in seconds
     * @param Word|null $owner the owner that it is for, instead of this connection's session
     * @param int $leaseMs an owner's lease in milliseconds; 0: none
     */
    public static function lock(Word $key, float $wait = 0.0, ?Word $owner = null, int $leaseMs = 0): self
    {
        return self::waiting($key, "lock $key->bytes", $wait, $owner, $leaseMs);
    }

    /** Shares the lock with all who give the same value. The rest as {@see lock()}. */
    public static function lockValue(
        Word $key,
        Word $value,
        float $wait = 0.0,
        ?Word $owner = null,
        int $leaseMs = 0,
    ): self {
        return self::waiting($key, "lock_value $key->bytes $value->bytes", $wait, $owner, $leaseMs);
    }

    /** One of so many slots. The rest as {@see lock()}. */
    public static function lockSlot(
        Word $key,
        int $slots,
        float $wait = 0.0,
        ?Word $owner = null,
        int $leaseMs = 0,
    ): self {
        return self::waiting($key, "lock_slot $key->bytes $slots", $wait, $owner, $leaseMs);
    }

    /** All of these locks, or none. */
    public static function lockAll(float $wait, Word $key, Word ...$more): self
    {
        $wait = self::bounded($wait);
        $line = 'lock_all ' . self::seconds($wait);
        foreach ([$key, ...$more] as $one) {
            $line .= " $one->bytes";
        }
        return new self($line, $wait, isOfSession: true);
    }

    public static function unlock(Word $key, ?Word $owner = null): self
    {
        $line = $owner === null ? "unlock $key->bytes" : "unlock $key->bytes $owner->bytes";
        return new self($line, isOfSession: $owner === null, key: $key, isRelease: true);
    }

    public static function unlockAll(): self
    {
        return new self('unlock_all', isOfSession: true);
    }

    public static function token(Word $key, ?Word $owner = null): self
    {
        return self::held($key, "token $key->bytes", $owner);
    }

    /** @param int $leaseMs in milliseconds; 0 takes the limit off */
    public static function expire(Word $key, int $leaseMs, ?Word $owner = null): self
    {
        return self::held($key, "expire $key->bytes $leaseMs", $owner);
    }

    public static function promote(Word $key, ?Word $owner = null): self
    {
        return self::held($key, "promote $key->bytes", $owner);
    }

    public static function demote(Word $key, Word $value, ?Word $owner = null): self
    {
        return self::held($key, "demote $key->bytes $value->bytes", $owner);
    }

    public static function break(Word $key): self
    {
        // Done twice, it would free the next one's lock.
        return new self("break $key->bytes", key: $key, mayBeRepeated: false);
    }

    public static function forceUnlock(Word $key): self
    {
        // Done twice, it would take the next one's lock.
        return new self("force_unlock $key->bytes", key: $key, mayBeRepeated: false);
    }

    /** @param string $who `#` and the session's number, or its name */
    public static function kick(string $who): self
    {
        // Done twice, it could end the next session with that name.
        return new self('kick ' . self::raw($who), mayBeRepeated: false);
    }

    /**
     * @param string|null $state what is known, `free` or a token: with it the request waits for another
     * @param float $wait how long, in seconds
     */
    public static function watch(Word $key, ?string $state = null, float $wait = 0.0): self
    {
        if ($state === null) {
            return new self("watch $key->bytes", key: $key);
        }
        $wait = self::bounded($wait);
        return new self("watch $key->bytes " . self::raw($state) . ' ' . self::seconds($wait), $wait, key: $key);
    }

    public static function setTimeout(int $graceMs): self
    {
        return new self("set_timeout $graceMs", isOfSession: true);
    }

    /** The session's id, or with one: resumes that session. */
    public static function connId(?string $id = null): self
    {
        return new self($id === null ? 'conn_id' : 'conn_id ' . self::raw($id), isOfSession: true);
    }

    public static function resume(string $id): self
    {
        return new self('resume ' . self::raw($id));
    }

    /** Who comes. */
    public static function auth(?string $user, #[\SensitiveParameter] string $password): self
    {
        return new self($user === null ? "auth $password" : "auth $user $password");
    }

    public static function name(Word $name): self
    {
        return new self("name $name->bytes");
    }

    public static function info(): self
    {
        return new self('info', isList: true);
    }

    /**
     * @param string|null $prefix as the protocol has it: `*`, `=KEY`, or the beginning of keys
     * @param string|null $after the word behind `NEXT`
     */
    public static function locks(?string $prefix = null, ?string $after = null): self
    {
        $words = array_map(self::raw(...), array_filter([$prefix, $after], is_string(...)));
        return new self(implode(' ', ['locks', ...$words]), isList: true);
    }

    public static function sessions(int $after = 0): self
    {
        return new self("sessions $after", isList: true);
    }

    public static function stats(): self
    {
        return new self('stats', isList: true);
    }

    public static function debug(): self
    {
        return new self('debug', isList: true);
    }

    public static function drain(): self
    {
        return new self('drain');
    }

    public static function failover(): self
    {
        return new self('failover');
    }

    public static function echo(string ...$words): self
    {
        return new self(implode(' ', ['echo', ...array_map(self::raw(...), $words)]));
    }

    public static function help(): self
    {
        return new self('help', isList: true);
    }

    public static function quit(): self
    {
        return new self('quit');
    }

    /**
     * A lease in the protocol's milliseconds. What is more than nothing never becomes 0, which would be no limit at
     * all.
     *
     * @param float|null $seconds null, or 0 and below: no limit
     */
    public static function milliseconds(?float $seconds): int
    {
        if ($seconds === null || $seconds <= 0.0) {
            return 0;
        }
        return (int)min(self::LONGEST_LEASE_MS, max(1.0, ceil($seconds * 1000.0)));
    }

    /**
     * As {@see milliseconds()}, but that less than nothing is a mistake, such as a time that was reckoned to be over:
     * as no limit it would leave a lock for ever.
     *
     * @internal
     * @throws \InvalidArgumentException it is less than 0
     */
    public static function lease(?float $seconds): int
    {
        if ($seconds !== null && !($seconds >= 0.0)) {
            throw new \InvalidArgumentException("a lease is 0 seconds, which is none, or more, and not $seconds");
        }
        return self::milliseconds($seconds);
    }

    private static function waiting(Word $key, string $line, float $wait, ?Word $owner, int $leaseMs): self
    {
        $wait = self::bounded($wait);
        $line .= ' ' . self::seconds($wait);
        $line .= $owner === null ? '' : " $owner->bytes $leaseMs";
        return new self($line, $wait, false, $owner === null, $key);
    }

    private static function held(Word $key, string $line, ?Word $owner): self
    {
        return new self($owner === null ? $line : "$line $owner->bytes", 0.0, false, $owner === null, $key);
    }

    private static function bounded(float $wait): float
    {
        return $wait > 0.0 ? min($wait, self::LONGEST_WAIT) : 0.0;
    }

    /** Not by `%f`, whose point is that of the locale. */
    private static function seconds(float $wait): string
    {
        $whole = (int)$wait;
        return $wait === (float)$whole ? (string)$whole : sprintf('%.3F', $wait);
    }

    /** A word that the server made, or that stands for itself. */
    private static function raw(string $word): string
    {
        if ($word === '' || strpbrk($word, " \r\n") !== false) {
            throw new \InvalidArgumentException('this is no word of the protocol: ' . json_encode($word));
        }
        return $word;
    }
}
