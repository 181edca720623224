<?php

declare(strict_types=1);

namespace Elock\Laravel;

use Elock\Client;
use Illuminate\Contracts\Cache\LockProvider;

/**
 * Laravel's locks, kept by an elockd server.
 */
final class ElockLockProvider implements LockProvider
{
    /** A day, as Laravel's own database locks have it. */
    public const DEFAULT_SECONDS = 86400;

    /**
     * @param string $prefix put before each name, as it is
     * @param int $defaultSeconds when a lock ends that is asked for without seconds; 0: only when it is released
     */
    public function __construct(
        private readonly Client $client,
        private readonly string $prefix = '',
        private readonly int $defaultSeconds = self::DEFAULT_SECONDS,
    ) {
    }

    /**
     * A lock, not taken yet.
     *
     * @param string $name any bytes
     * @param mixed $seconds after which it ends by itself, unless it is refreshed: int, float, \DateInterval or
     *     \DateTimeInterface; null, or 0 and less: the provider's default
     * @param string|null $owner to whom it belongs; null: a word that nobody else has
     * @return ElockLock
     */
    public function lock($name, $seconds = 0, $owner = null)
    {
        $owner = $owner === null ? null : (string)$owner;
        return new ElockLock($this->client, $this->prefix . $name, $seconds, $owner, $this->defaultSeconds);
    }

    /**
     * A lock that this owner has taken, in whatever process.
     *
     * @param string $name
     * @param string $owner
     * @return ElockLock
     * @throws \LogicException the owner is that of a lock that is bound to its connection
     */
    public function restoreLock($name, $owner)
    {
        return $this->lock($name, 0, $owner);
    }
}
