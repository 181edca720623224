<?php

/**
 * Releases a lock and sends a signal at about the same time. Usage: signaller.php ADDRESS PID; for each line, takes the
 * lock `race`, says its token, and does both at the next one.
 */

declare(strict_types=1);

use Elock\Client;

require __DIR__ . '/../../bootstrap.php';

$client = Client::connect($argv[1]);
while (fgets(STDIN) !== false) {
    $lock = $client->lock('race', 20.0);
    echo $lock->token(), "\n";
    if (fgets(STDIN) === false) {
        break;
    }
    $pause = random_int(-150, 150);
    if ($pause < 0) {
        posix_kill((int)$argv[2], SIGUSR1);
        usleep(-$pause);
    }
    $lock->release();
    if ($pause >= 0) {
        usleep($pause);
        posix_kill((int)$argv[2], SIGUSR1);
    }
    echo "done\n";
}
