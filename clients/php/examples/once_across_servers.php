<?php

/**
 * A cron job that ten servers start in the same minute, and that runs once: php once_across_servers.php FILE [DAY]
 *
 * Nine wait while one works. If it dies, the next one does the work; when it is done, the others see that and go.
 */

declare(strict_types=1);

use Elock\Client;

require __DIR__ . '/../autoload.php';

[$file, $day] = [$argv[1], $argv[2] ?? date('Y-m-d')];
$client = Client::connect(getenv('ELOCK_SERVER') ?: 'tcp://127.0.0.1:11400');

// This one ends with the process, however that ends.
$working = $client->lock('nightly report', wait: 3600);
if ($client->holder("nightly report of $day") !== null) {
    echo "it is done already\n";
    exit;
}
$draft = "$file." . $working->token();                       // Nobody else's name.
file_put_contents($draft, "the report of $day, by process " . getmypid() . "\n");
if (!$working->isHeld()) {
    throw new RuntimeException('the lock is lost: another server is at work');
}
rename($draft, $file) || throw new RuntimeException("$draft has become no $file");
// And this one stays for a day and a half, as the mark of what is done: it belongs to the word, and to no process.
$client->owner(gethostname() . ':' . getmypid())->lock("nightly report of $day", lease: 36 * 3600);
echo "it is done\n";
