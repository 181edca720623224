<?php

/**
 * A signal that comes just as the grant has been read, and whose handler closes the client. Usage: late.php ADDRESS;
 * says what came of the lock.
 */

declare(strict_types=1);

namespace Elock;

/** @param resource $stream */
function fread($stream, int $length): string|false
{
    $bytes = \fread($stream, max(1, $length));
    str_contains((string)$bytes, 'Acquired') && posix_kill((int)getmypid(), SIGUSR1);
    return $bytes;
}

require __DIR__ . '/../../bootstrap.php';

foreach ([false, true] as $isAsync) {
    $client = Client::connect($argv[1]);
    pcntl_async_signals($isAsync);
    pcntl_signal(SIGUSR1, static fn () => $client->close());
    try {
        $lock = $client->lock('k', 5.0);
        echo 'held: ', json_encode($lock->isHeld()), "\n";
    } catch (Exception\ConnectionException $problem) {
        echo $problem->getMessage(), "\n";
    }
    // What belongs to an owner is not released by that.
    echo 'held: ', json_encode($client->owner()->lock('k', 5.0, 60.0)->release()), "\n";
}
