<?php

declare(strict_types=1);

namespace Elock\Symfony;

use Elock\Client;
use Symfony\Component\Lock\Exception\InvalidArgumentException;
use Symfony\Component\Lock\PersistingStoreInterface;
use Symfony\Component\Lock\Store\StoreFactory;

/**
 * Symfony's factory of lock stores, which knows elock as well.
 */
final class ElockStoreFactory
{
    /**
     * The store for `elock://HOST:PORT`, `elocks://HOST:PORT` (TLS) or `elock+unix:/PATH`, with `?ttl=300&wait=60` and
     * other settings behind it if need be, or for a {@see Client}. Everything else is made by {@see StoreFactory}.
     *
     * @param mixed $connection a DSN, a short name or a connection object
     * @param mixed ...$more what Symfony's own takes behind it, in versions that do
     * @throws InvalidArgumentException it is none of these
     */
    public static function createStore(
        #[\SensitiveParameter] mixed $connection,
        mixed ...$more,
    ): PersistingStoreInterface {
        if ($connection instanceof Client) {
            return new ElockStore($connection);
        }
        if (!is_string($connection) || !Dsn::isOne($connection)) {
            // @phpstan-ignore-next-line what it takes differs from version to version, and it checks that itself
            return StoreFactory::createStore($connection, ...array_values($more));
        }
        try {
            $dsn = Dsn::parse($connection);
            return new ElockStore($dsn->client(), $dsn->seconds('ttl') ?? 300.0, $dsn->seconds('wait'));
        } catch (\InvalidArgumentException $problem) {
            throw new InvalidArgumentException($problem->getMessage(), 0, $problem);
        }
    }
}
