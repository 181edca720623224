<?php

declare(strict_types=1);

namespace Elock\Laravel;

use Elock\Client;
use Elock\Exception\LostException;
use Elock\Lock;

/**
 * A lock that belongs to this process's connection, and ends with it.
 *
 * @internal
 */
final class ConnectionHold implements Hold
{
    /** By this the words of such locks are known, which mean nothing to the server. */
    private const MARK = 'elock-connection:';

    private ?Lock $lock = null;

    public function __construct(private readonly Client $client, private readonly string $name)
    {
    }

    /** What such a lock tells as its owner. */
    public static function marked(string $owner): string
    {
        return str_starts_with($owner, self::MARK) ? $owner : self::MARK . $owner;
    }

    /** @throws \LogicException this word is that of a lock that is bound to some connection */
    public static function refuseMarked(string $owner): void
    {
        if (str_starts_with($owner, self::MARK)) {
            throw new \LogicException(
                "\"$owner\" owns a lock that is bound to its connection: only the object that took it can ask for it, "
                . 'refresh it and release it; it cannot be restored',
            );
        }
    }

    public function take(float $wait, float $lease): void
    {
        $this->lock = $this->client->lock($this->name, $wait, $lease);
    }

    public function release(): bool
    {
        return $this->lock?->release() ?? false;
    }

    public function refresh(float $lease): bool
    {
        try {
            $this->lock?->expire(max(0.0, $lease));
            return $this->lock !== null;
        } catch (LostException) {
            return false;
        }
    }

    public function token(): ?int
    {
        return $this->lock?->isHeld() === true ? $this->lock->token() : null;
    }
}
