<?php

/**
 * Two clients that take a lock by turns, and write down when they have it. Usage: racer.php FILE ADDRESS ...; until the
 * end of its input.
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Exception\ConnectionException;
use Elock\Exception\ElockException;
use Elock\Exception\RefusedException;
use Elock\Exception\ServerStoppingException;

require __DIR__ . '/../../bootstrap.php';

/** What is not known is asked for until it is. */
function surely(callable $act): mixed
{
    while (true) {
        try {
            return $act();
        } catch (ConnectionException | ServerStoppingException) {
            usleep(5000);
        }
    }
}

[, $file] = $argv;
$log = fopen($file, 'a') ?: throw new \RuntimeException('no file');
stream_set_blocking(STDIN, false);
$clients = array_map(static fn (string $address): Client => new Client($address), array_slice($argv, 2));
foreach ($clients as $number => $client) {
    // So that the session is known before anything can break.
    surely(static fn () => $client->lock("own-" . getmypid() . "-$number", 1.0));
}
for ($round = 0; fgets(STDIN) === false && !feof(STDIN); $round++) {
    $client = $clients[$round % count($clients)];
    $holder = random_int(0, 1) === 0 ? $client : $client->owner();
    try {
        $lock = match (random_int(0, 2)) {
            0 => $holder->lock('race', 20.0, 120.0),
            1 => $client->lockAll(['race', 'z'], 20.0)[0],
            default => $holder->lock('race', 0.0, 120.0),
        };
    } catch (RefusedException) {
        continue;
    } catch (ConnectionException | ServerStoppingException) {
        surely(static fn () => $holder->unlock('race'));
        continue;
    }
    fwrite($log, "enter {$lock->token()}\n");
    usleep(random_int(0, 300));
    if (!surely($lock->isHeld(...))) {
        fwrite($log, "lost {$lock->token()}\n");
    }
    fwrite($log, "leave {$lock->token()}\n");
    surely($lock->release(...));
    surely(static fn () => $client->unlock('z'));
}
foreach ($clients as $client) {
    try {
        $client->close();
    } catch (ElockException) {
    }
}
