<?php

/**
 * What to do when the lock is lost: the work is longer than the lease, which each step renews. If it cannot be renewed,
 * the work is undone. php lock_lost.php FILE < steps
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Exception\ElockException;

require __DIR__ . '/../autoload.php';

const LEASE = 30.0;                                         // In seconds; more than a step takes, at its longest.

[, $file] = $argv;
$client = Client::connect(getenv('ELOCK_SERVER') ?: 'tcp://127.0.0.1:11400');
$lock = $client->owner()->lock('export', wait: 60, lease: LEASE);
$draft = "$file." . $lock->token();                         // Nobody else's name.
try {
    while (($step = fgets(STDIN)) !== false) {
        file_put_contents($draft, $step, FILE_APPEND);
        $lock->expire(LEASE);                               // LostException: it is lost.
    }
    $lock->expire(LEASE);                                   // Once more before what cannot be undone.
    rename($draft, $file) || throw new RuntimeException("$draft has become no $file");
} catch (ElockException $problem) {                         // No answer counts as lost: it is not known to be held.
    @unlink($draft);
    echo 'stopped, and undone: ', $problem->getMessage(), "\n";
    exit(1);
}
$lock->release();
echo "exported\n";
