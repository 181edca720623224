<?php

/**
 * dlock (warmans/dlock) by elock: acquire() waits in the server's queue, instead of asking again each second.
 * php dlock.php FILE < text
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Dlock\ElockDatastore;
use Elock\Dlock\ElockLock;

require __DIR__ . '/../autoload.php';
require getenv('DLOCK_AUTOLOAD') ?: __DIR__ . '/../vendor/autoload.php';

$client = Client::connect(getenv('ELOCK_SERVER') ?: 'tcp://127.0.0.1:11400');
$lock = new ElockLock(new ElockDatastore($client, 900), 'import');
if (!$lock->acquire(30)) {
    echo $lock->refusal()?->getMessage(), "\n";
    exit(1);
}
try {
    echo "working\n";
    $text = stream_get_contents(STDIN);
    $lock->token();                                         // LostException: it took longer than the TTL.
    file_put_contents($argv[1], $text);
} finally {
    $wasHeld = $lock->release();
}
echo $wasHeld ? "done\n" : "done, but the lock was lost just then\n";
