<?php

/**
 * What dlock (`warmans/dlock`) has, where it is not installed.
 */

declare(strict_types=1);

interface_exists(Dlock\Datastore\DatastoreInterface::class) || require __DIR__ . '/StandIn/DatastoreInterface.php';
class_exists(Dlock\Lock::class) || require __DIR__ . '/StandIn/Lock.php';
