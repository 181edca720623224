<?php

/**
 * An import with a fencing token, which SQL checks: php fencing.php DATABASE < lines
 *
 * Whoever comes too late, as its lock has long passed on, writes nothing over its successor's work.
 */

declare(strict_types=1);

use Elock\Client;

require __DIR__ . '/../autoload.php';

$database = new PDO("sqlite:$argv[1]", options: [PDO::ATTR_TIMEOUT => 10]);
$database->exec('CREATE TABLE IF NOT EXISTS imports (name TEXT PRIMARY KEY, body TEXT, last_token INTEGER NOT NULL)');
$client = Client::connect(getenv('ELOCK_SERVER') ?: 'tcp://127.0.0.1:11400');

$lock = $client->owner()->lock('import', wait: 60, lease: 900);
echo "importing\n";
$body = stream_get_contents(STDIN);                         // This may take longer than the lease.

$write = $database->prepare(
    'INSERT INTO imports (name, body, last_token) VALUES (:name, :body, :token)
     ON CONFLICT (name) DO UPDATE SET body = excluded.body, last_token = excluded.last_token
     WHERE last_token <= excluded.last_token',
);
$write->execute(['name' => 'prices', 'body' => $body, 'token' => $lock->token()]);
if ($write->rowCount() === 0) {
    echo "too late: another import has had the lock since; nothing is written\n";
    exit(1);
}
echo $lock->release() ? "imported\n" : "imported; the lock had ended, but nobody else had written\n";
