<?php

/**
 * Acquire + release by an owner word, beside Redis: the phpredis extension and predis, with `SET NX PX` and the script
 * that deletes a key of one's own. Alternating in one run; the median of the rounds, in microseconds for each pair.
 *
 *     php bench/pairs.php [ROUNDS [PAIRS]]
 *
 * Starts an elockd (see tests/Support/Server.php) and a redis-server of its own.
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Tests\Support\Server;

require __DIR__ . '/../tests/bootstrap.php';

const RELEASE = 'if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end';

/** @return array{string, int, string} where a Redis runs until the end of this script: host, port, socket */
function redis(string $directory): array
{
    $port = 20000 + getmypid() % 10000;
    $socket = "$directory/redis";
    $command = ['redis-server', '--port', (string)$port, '--unixsocket', $socket, '--save', '', '--dir', $directory];
    $pipes = [];
    $process = proc_open($command, [1 => ['file', '/dev/null', 'w']], $pipes);
    register_shutdown_function(static function () use ($process): void {
        if (is_resource($process)) {
            proc_terminate($process);
            proc_close($process);
        }
    });
    while (!@stream_socket_client("unix://$socket")) {
        usleep(1000);
    }
    return ['127.0.0.1', $port, $socket];
}

function must(bool $isDone): void
{
    $isDone || throw new \RuntimeException('a pair was not done');
}

/** @return array<string, \Closure(): \Closure(): void> connects, and gives what does one pair */
function contestants(Server $server): array
{
    $all = [];
    foreach (['TCP' => $server->tcp(), 'unix' => $server->unix()] as $transport => $address) {
        $all["$transport elock"] = static function () use ($address): \Closure {
            $client = new Client($address);
            return static fn () => must($client->owner('o' . mt_rand())->lock('pair', 0.0, 10.0)->release());
        };
    }
    [$host, $port, $socket] = redis($server->directory);
    foreach (['TCP' => [$host, $port], 'unix' => [$socket]] as $transport => $where) {
        $all["$transport phpredis"] = static function () use ($where): \Closure {
            $redis = new \Redis();
            $redis->connect(...$where);
            $sha = sha1(RELEASE);
            return static function () use ($redis, $sha): void {
                $owner = 'o' . mt_rand();
                must($redis->set('pair', $owner, ['nx', 'px' => 10000]) === true);
                $released = $redis->evalSha($sha, ['pair', $owner], 1);
                must(($released ?: $redis->eval(RELEASE, ['pair', $owner], 1)) === 1);
            };
        };
        $address = $transport === 'TCP' ? "tcp://$host:$port" : "unix:$socket";
        $all["$transport predis"] = static function () use ($address): \Closure {
            $redis = new \Predis\Client($address);
            return static function () use ($redis): void {
                $owner = 'o' . mt_rand();
                must((string)$redis->set('pair', $owner, 'PX', 10000, 'NX') === 'OK');
                must($redis->eval(RELEASE, 1, 'pair', $owner) === 1);
            };
        };
    }
    $isThere = static fn (string $name): bool => match (strrchr($name, ' ')) {
        ' phpredis' => extension_loaded('redis'),
        ' predis' => class_exists(\Predis\Client::class),
        default => true,
    };
    return array_filter($all, $isThere, ARRAY_FILTER_USE_KEY);
}

/** @param list<float> $values */
function median(array $values): float
{
    sort($values);
    return $values[intdiv(count($values), 2)];
}

$rounds = (int)($argv[1] ?? 15);
$pairs = (int)($argv[2] ?? 1000);
$server = Server::start();
$contestants = contestants($server);
$took = [];
for ($round = -1; $round < $rounds; $round++) {
    foreach ($contestants as $name => $connect) {
        $pair = $connect();
        $began = hrtime(true);
        for ($left = $pairs; $left > 0; $left--) {
            $pair();
        }
        $kept = (hrtime(true) - $began) / 1e3 / $pairs;
        unset($pair);
        $began = hrtime(true);
        $few = max(1, intdiv($pairs, 5));
        for ($left = $few; $left > 0; $left--) {
            $connect()();
        }
        $new = (hrtime(true) - $began) / 1e3 / $few;
        // The first round is for the caches.
        if ($round >= 0) {
            $took[$name]['kept'][] = $kept;
            $took[$name]['new'][] = $new;
        }
    }
}
printf("%-16s %18s %22s\n", 'microseconds', 'kept connection', 'a new one each');
foreach ($took as $name => $columns) {
    printf("%-16s %18.1f %22.1f\n", $name, median($columns['kept']), median($columns['new']));
}
