<?php

/**
 * Takes a lock of its connection and one of an owner, and ends in the way that it is told.
 */

declare(strict_types=1);

use Elock\Client;

require __DIR__ . '/../../../autoload.php';

$client = Client::connect(getenv('ELOCK_SERVER'));
$lock = $client->lock('of the connection');
$client->owner('word')->lock('of an owner', lease: 900);
echo "locked\n";
match ($argv[1]) {
    'last line' => fgets(STDIN),
    'exit' => exit(3),
    'exception' => throw new LogicException('a bug'),
    'memory' => str_repeat('x', PHP_INT_MAX >> 16),
    'time' => (static function (): void {
        set_time_limit(1);
        while (true) {
        }
    })(),
    'kill' => posix_kill(getmypid(), SIGKILL),
};
