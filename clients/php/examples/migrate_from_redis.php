<?php

/**
 * While an application changes over from Redis locks: both locks, Redis's first, everywhere in this order.
 * php migrate_from_redis.php FILE < text
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Exception\LostException;

require __DIR__ . '/../autoload.php';

const LEASE = 60;                                           // In seconds.

$redis = new Redis();
$redis->connect(getenv('REDIS_SERVER') ?: '127.0.0.1');
$word = bin2hex(random_bytes(16));
$ifOurs = fn (string $command, string ...$arguments): bool => (bool)$redis->eval(
    "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('$command', KEYS[1], unpack(ARGV, 2)) or 0",
    ['lock:report', $word, ...$arguments],
    1,
);

for ($ends = time() + 60; !$redis->set('lock:report', $word, ['nx', 'ex' => LEASE]); usleep(250_000)) {
    time() < $ends || throw new RuntimeException('others have it, in Redis');
}
try {
    $client = Client::connect(getenv('ELOCK_SERVER') ?: 'tcp://127.0.0.1:11400');
    $lock = $client->owner($word)->lock('report', wait: LEASE / 2, lease: LEASE);  // Redis's goes on meanwhile.
    try {
        echo "working\n";
        $text = stream_get_contents(STDIN);
        $ifOurs('expire', (string)LEASE) || throw new LostException('the lock in Redis is lost');
        $lock->expire(LEASE);                               // Both are held, and for a minute from now.
        file_put_contents($argv[1], $text);
        echo "done\n";
    } finally {
        $lock->release();
    }
} finally {
    $ifOurs('del');
}
