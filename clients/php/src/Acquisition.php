<?php

declare(strict_types=1);

namespace Elock;

/**
 * A lock that is asked for, or several: how to ask, and what to ask in the same packet.
 */
final class Acquisition
{
    /**
     * @param \Closure(float): Request $request the request, for a wait of so many seconds
     * @param float $wait how long to wait if others hold it, in seconds
     * @param list<Word> $keys
     * @param list<Request> $behind what is sent in one packet behind it
     */
    private function __construct(
        private readonly \Closure $request,
        public readonly float $wait,
        public readonly array $keys,
        public readonly ?Word $owner,
        public readonly array $behind,
        /** Whether nobody but this has ever used the owner's word. */
        public readonly bool $isOwnerNew = false,
    ) {
    }

    /**
     * The same for an owner's word that was made for this lock: by nobody else, nor for this key before. Then a grant
     * whose answer was lost is known for one's own.
     */
    public function byNewOwner(): self
    {
        return new self($this->request, $this->wait, $this->keys, $this->owner, $this->behind, true);
    }

    /**
     * @param Word|null $owner the owner that it is for, instead of this connection's session
     * @param int $leaseMs an owner's lease in milliseconds; 0: none
     */
    public static function lock(Word $key, float $wait, ?Word $owner, int $leaseMs, Request ...$behind): self
    {
        $request = static fn (float $wait): Request => Request::lock($key, $wait, $owner, $leaseMs);
        return self::one($request, $wait, $key, $owner, $behind);
    }

    /** Shared with all who give the same value. The rest as {@see lock()}. */
    public static function value(
        Word $key,
        Word $value,
        float $wait,
        ?Word $owner,
        int $leaseMs,
        Request ...$behind,
    ): self {
        $request = static fn (float $wait): Request => Request::lockValue($key, $value, $wait, $owner, $leaseMs);
        return self::one($request, $wait, $key, $owner, $behind);
    }

    /** One of so many slots. The rest as {@see lock()}. */
    public static function slot(
        Word $key,
        int $slots,
        float $wait,
        ?Word $owner,
        int $leaseMs,
        Request ...$behind,
    ): self {
        $request = static fn (float $wait): Request => Request::lockSlot($key, $slots, $wait, $owner, $leaseMs);
        return self::one($request, $wait, $key, $owner, $behind);
    }

    /**
     * All of these keys, or none, for the session.
     *
     * @param non-empty-list<Word> $keys
     */
    public static function all(array $keys, float $wait, Request ...$behind): self
    {
        $request = static fn (float $wait): Request => Request::lockAll($wait, ...$keys);
        return new self($request, $wait, $keys, null, array_values($behind));
    }

    /** @internal */
    public function request(float $wait): Request
    {
        return ($this->request)($wait);
    }

    /**
     * @param \Closure(float): Request $request
     * @param array<array-key, Request> $behind
     */
    private static function one(\Closure $request, float $wait, Word $key, ?Word $owner, array $behind): self
    {
        return new self($request, $wait, [$key], $owner, array_values($behind));
    }
}
