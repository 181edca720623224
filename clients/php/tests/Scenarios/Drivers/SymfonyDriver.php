<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Drivers;

use Elock\Tests\Scenarios\Driver;
use Elock\Tests\Scenarios\DriverLock;
use Symfony\Component\Lock\Key;
use Symfony\Component\Lock\Lock;
use Symfony\Component\Lock\PersistingStoreInterface;

/**
 * `$factory->createLock()`, whatever store is under it. The owner is the serialised key, as it is handed to workers.
 */
final class SymfonyDriver implements Driver
{
    /** @param \Closure(): void $afterFork what that store needs in a forked process */
    public function __construct(
        private readonly PersistingStoreInterface $store,
        private readonly \Closure $afterFork,
    ) {
    }

    public function lock(string $name, float $seconds, ?string $owner, bool $keep): DriverLock
    {
        $key = $owner === null ? new Key($name) : unserialize($owner);
        return new SymfonyLock(new Lock($key, $this->store, $seconds > 0.0 ? $seconds : null, !$keep), $key);
    }

    public function forked(): void
    {
        ($this->afterFork)();
    }
}
