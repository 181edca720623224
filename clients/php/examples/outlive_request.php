<?php

/**
 * A lock that outlives a request: a document is opened in one, kept in others, and closed in the last.
 * php outlive_request.php open|keep|close SESSION, where the file SESSION stands for $_SESSION
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Exception\LostException;
use Elock\Exception\RefusedException;

require __DIR__ . '/../autoload.php';

const LEASE = 900.0;                                        // In seconds; a browser that is closed says no goodbye.

[, $action, $session] = $argv;
$client = Client::connect(getenv('ELOCK_SERVER') ?: 'tcp://127.0.0.1:11400');
try {
    if ($action === 'open') {
        $owner = $client->owner();
        file_put_contents($session, $owner->word());        // First: a lock whose owner is unknown has only its lease.
        $owner->lock('document 7', lease: LEASE);
        echo "opened\n";
        exit;
    }
    $lock = $client->owner(file_get_contents($session))->held('document 7');
    if ($action === 'keep') {
        $lock->expire(LEASE);
        echo "kept\n";
    } else {
        // Save the document here, and with it $lock->token(), so that a later holder's text is not overwritten.
        $lock->release() || throw new LostException('it ended just now');
        echo "closed\n";
    }
} catch (RefusedException) {
    unlink($session);
    echo "somebody else has it open\n";
    exit(1);
} catch (LostException) {
    echo "it was open for too long without a sign: somebody else may have changed it, so nothing is saved\n";
    exit(1);
}
