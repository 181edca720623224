<?php

/**
 * A client that is told what to do. Usage: holder.php ADDRESS. Its answers are JSON.
 *
 *     lock KEY WAIT | unlock KEY | held KEY | id | resume ID | end
 *     own KEY OWNER WAIT LEASE | free KEY OWNER
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Exception\ElockException;
use Elock\Options;

require __DIR__ . '/../../bootstrap.php';

$client = new Client($argv[1], new Options(name: 'holder'));
while (($line = fgets(STDIN)) !== false) {
    [$word, $a, $b, $c, $d] = explode(' ', trim($line)) + ['', '', '', '', ''];
    try {
        $said = match ($word) {
            'lock' => $client->lock($a, (float)$b)->token(),
            'unlock' => $client->unlock($a),
            'held' => $client->held($a)->token(),
            'id' => $client->sessionId(),
            'resume' => $client->resume($a) ?? 'resumed',
            'own' => $client->owner($b)->lock($a, (float)$c, (float)$d)->token(),
            'free' => $client->owner($b)->unlock($a),
            'end' => exit(0),
            default => throw new \RuntimeException("what is $word?"),
        };
        echo json_encode($said), "\n";
    } catch (ElockException $problem) {
        echo json_encode([$problem::class, $problem->getMessage()]), "\n";
    }
}
exit(0);
