<?php

declare(strict_types=1);

namespace Dlock\Datastore;

/**
 * As far as this package stands on it, for tests where dlock is not installed.
 */
interface DatastoreInterface
{
    public function acquireLock($lockId);

    public function releaseLock($lockId);
}
