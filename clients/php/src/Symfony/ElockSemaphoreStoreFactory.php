<?php

declare(strict_types=1);

namespace Elock\Symfony;

use Elock\Client;
use Symfony\Component\Semaphore\Exception\InvalidArgumentException;
use Symfony\Component\Semaphore\PersistingStoreInterface;
use Symfony\Component\Semaphore\Store\StoreFactory;

/**
 * Symfony's factory of semaphore stores, which knows elock as well.
 */
final class ElockSemaphoreStoreFactory
{
    /**
     * The store for `elock://HOST:PORT`, `elocks://HOST:PORT` (TLS) or `elock+unix:/PATH`, with settings behind it if
     * need be, or for a {@see Client}. Everything else is made by {@see StoreFactory}.
     *
     * @param mixed $connection a DSN or a connection object
     * @param mixed ...$more what Symfony's own takes behind it, in versions that do
     * @throws InvalidArgumentException it is none of these
     */
    public static function createStore(
        #[\SensitiveParameter] mixed $connection,
        mixed ...$more,
    ): PersistingStoreInterface {
        if ($connection instanceof Client) {
            return new ElockSemaphoreStore($connection);
        }
        if (!is_string($connection) || !Dsn::isOne($connection)) {
            // @phpstan-ignore-next-line what it takes differs from version to version, and it checks that itself
            return StoreFactory::createStore($connection, ...array_values($more));
        }
        try {
            return new ElockSemaphoreStore(Dsn::parse($connection)->refuse('ttl', 'wait')->client());
        } catch (\InvalidArgumentException $problem) {
            throw new InvalidArgumentException($problem->getMessage(), 0, $problem);
        }
    }
}
