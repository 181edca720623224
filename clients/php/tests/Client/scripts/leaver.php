<?php

/**
 * Takes the lock `left`, waits for `kept`, and is ended by its own signal handler. Usage: leaver.php ADDRESS.
 */

declare(strict_types=1);

use Elock\Client;

require __DIR__ . '/../../bootstrap.php';

$client = Client::connect($argv[1]);
$client->lock('left');
pcntl_async_signals(true);
pcntl_signal(SIGUSR1, static function (): never {
    exit(3);
});
echo "ready\n";
$client->lock('kept', 60.0);
echo "got it\n";
