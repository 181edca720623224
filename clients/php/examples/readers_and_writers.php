<?php

/**
 * Many who read, or one who writes: php readers_and_writers.php read|write|check FILE
 *
 * `write` copies its input to the file; `check` reads, and writes only if it must.
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Exception\RefusedException;

require __DIR__ . '/../autoload.php';

[, $mode, $file] = $argv;
$client = Client::connect(getenv('ELOCK_SERVER') ?: 'tcp://127.0.0.1:11400');
$isChecked = fn (): bool => str_ends_with(file_get_contents($file), "checked\n");

if ($mode === 'write') {
    $lock = $client->lock('catalogue', wait: 60);
    file_put_contents($file, '');
    while (($line = fgets(STDIN)) !== false) {
        $lock->isHeld() || throw new RuntimeException('the lock is lost: the file is incomplete, write it again');
        file_put_contents($file, $line, FILE_APPEND);
    }
} else {
    $lock = $client->lockValue('catalogue', 'readers', wait: 60);
    if ($mode === 'check' && !$isChecked()) {
        try {
            $lock->promote();                               // At once, if nobody else reads.
        } catch (RefusedException) {
            $lock->release();                               // Waiting for the other readers, as one, would be for ever.
            $lock = $client->lock('catalogue', wait: 60);   // Somebody may have written it meanwhile, so look again.
        }
        $isChecked() || file_put_contents($file, "checked\n", FILE_APPEND);
        $lock->demote('readers');                           // Those who read may read again.
    }
    echo file_get_contents($file);
}
if (!$lock->release()) {
    throw new RuntimeException('the lock was lost meanwhile: what was read or written may be half of it');
}
