<?php

/**
 * A process that forks while its client has locks. Usage: fork.php ADDRESS [CAFILE]; says "ok" for each of both, or
 * what went wrong.
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Exception\LostException;
use Elock\Exception\RefusedException;
use Elock\Options;
use Elock\Request;

require __DIR__ . '/../../bootstrap.php';

function check(bool $isSo, string $what): void
{
    if (!$isSo) {
        echo getmypid(), ": $what\n";
        exit(1);
    }
}

function talk(Client $client, string $who): void
{
    for ($round = 0; $round < 300; $round++) {
        $said = $client->send(Request::echo($who, (string)$round))[0]->text;
        check($said === "[\"$who\",\"$round\"]", "a wrong answer: $said");
    }
}

$tls = isset($argv[2]) ? ['cafile' => $argv[2], 'peer_name' => 'elock.test'] : [];
$client = Client::connect($argv[1], new Options(tls: $tls));
$lock = $client->lock('parents');
$owned = $client->owner('job')->lock('owned', 0.0, 60.0);
$pid = pcntl_fork();
if ($pid === 0) {
    talk($client, 'child');
    check(!$lock->isHeld() && !$lock->release(), 'the child has its parent\'s lock');
    check($owned->isHeld(), 'the owner is the same');
    try {
        $lock->expire(1.0);
        check(false, 'the child renews its parent\'s lock');
    } catch (LostException) {
    }
    try {
        $client->lock('parents');
        check(false, 'both have it');
    } catch (RefusedException) {
    }
    check($client->lock('childs')->isHeld(), 'the child can lock');
    echo "ok\n";
    exit(0);
}
talk($client, 'parent');
pcntl_waitpid($pid, $status);
check($status === 0, 'the child failed');
talk($client, 'parent');
check($lock->isHeld(), 'the child took the lock along');
check($client->lock('childs')->isHeld(), 'the child\'s lock ends with it');
check($lock->release() && $owned->release(), 'it was not held');
echo "ok\n";
