<?php

/**
 * Two locks, one after the other, and again after a deadlock: php deadlock_retry.php FIRST SECOND
 *
 * Where the second lock is known at the beginning, ask for both by lockAll(). This is for when it is not.
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Exception\DeadlockException;

require __DIR__ . '/../autoload.php';

[, $first, $second] = $argv;
$client = Client::connect(getenv('ELOCK_SERVER') ?: 'tcp://127.0.0.1:11400');

for ($attempt = 1, $isDone = false; !$isDone; $attempt++) {
    $locks = [];
    try {
        $locks[] = $client->lock($first, wait: 60);
        $locks[] = $client->lock($second, wait: 60);
        foreach ($locks as $lock) {
            $lock->isHeld() || throw new RuntimeException("{$lock->key()} is lost");
        }
        echo "working with $first and $second\n";
        $isDone = true;
    } catch (DeadlockException $deadlock) {
        foreach ($deadlock->circle() as ['session' => $session, 'key' => $key]) {
            echo "session $session waits for $key\n";
        }
        if ($attempt === 20) {
            throw $deadlock;
        }
    } finally {
        // What is released goes to the next in line, behind whom the next attempt queues.
        foreach ($locks as $lock) {
            $lock->release() || throw new RuntimeException("{$lock->key()} was lost meanwhile");
        }
    }
}
