<?php

/**
 * What it costs to acquire and release a lock that nobody else wants: under Laravel, Symfony and alone, on elock and on
 * Redis (by ext-redis and by Predis), each in turn within a run. It starts its own servers.
 *
 *     php frameworks.php [--rounds=2000] [--new-rounds=300] [--runs=9]
 *
 * Printed are medians, in microseconds for one acquire and release: on a connection that is kept, and with
 * a new client and connection each time, as in a request that takes one lock.
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Laravel\ElockLockProvider;
use Elock\Symfony\ElockStore;
use Elock\Tests\Scenarios\Backends\ElockBackend;
use Elock\Tests\Scenarios\Backends\RedisBackend;
use Elock\Tests\Scenarios\Drivers\Drivers;
use Illuminate\Cache\RedisStore as LaravelRedis;
use Illuminate\Redis\RedisManager;
use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\PersistingStoreInterface;
use Symfony\Component\Lock\Store\RedisStore as SymfonyRedis;

require __DIR__ . '/../tests/bootstrap.php';

function phpRedis(string $address): \Redis
{
    $redis = new \Redis();
    $redis->connect(...Drivers::hostAndPort($address));
    return $redis;
}

function predis(string $address): \Predis\Client
{
    return new \Predis\Client(predisParameters($address));
}

/** @return array<string, mixed> */
function predisParameters(string $address): array
{
    [$host, $port] = Drivers::hostAndPort($address);
    return $port === 0 ? ['scheme' => 'unix', 'path' => $host] : ['scheme' => 'tcp', 'host' => $host, 'port' => $port];
}

function laravelOnRedis(string $address, string $client): \Closure
{
    [$host, $port] = Drivers::hostAndPort($address);
    $connection = $client === 'predis' ? predisParameters($address) : ['host' => $host, 'port' => $port];
    return laravel(new LaravelRedis(new RedisManager(null, $client, ['default' => $connection]), 'app:'));
}

function laravel(LaravelRedis | ElockLockProvider $locks): \Closure
{
    return static function () use ($locks): void {
        $lock = $locks->lock('bench', 10);
        $lock->get() && $lock->release() ?: throw new \RuntimeException('it is held');
    };
}

function symfony(PersistingStoreInterface $store): \Closure
{
    $factory = new LockFactory($store);
    return static function () use ($factory): void {
        $lock = $factory->createLock('bench', 10.0);
        $lock->acquire() ?: throw new \RuntimeException('it is held');
        $lock->release();
    };
}

function alone(Client $client): \Closure
{
    return static function () use ($client): void {
        $client->owner()->lock('bench', 0.0, 10.0)->release();
    };
}

/** In microseconds for one: the median, which others who use the machine disturb less than a mean. */
function measure(\Closure $make, int $rounds, bool $isKept): float
{
    $once = $make();
    $once();
    $times = [];
    for ($round = 0; $round < $rounds; $round++) {
        $begins = hrtime(true);
        if (!$isKept) {
            $once = null;
            $once = $make();
        }
        $once();
        $times[] = (hrtime(true) - $begins) / 1000;
    }
    return median($times);
}

/** @param list<float> $values */
function median(array $values): float
{
    sort($values);
    return $values[intdiv(count($values), 2)];
}

$options = getopt('', ['rounds:', 'new-rounds:', 'runs:']);
$runs = (int)($options['runs'] ?? 9);
$socket = stream_socket_server('tcp://127.0.0.1:0');
$port = (int)substr((string)strrchr((string)stream_socket_get_name($socket, false), ':'), 1);
fclose($socket);
$elock = new ElockBackend(false);
$redis = RedisBackend::isInstalled() ? new RedisBackend(false, $port) : null;

$all = ['alone, elock' => static fn (string $transport): \Closure => alone(new Client($elock->$transport()))];
if (class_exists(\Illuminate\Cache\Lock::class)) {
    $all['Laravel, elock'] = static fn (string $transport): \Closure => laravel(
        new ElockLockProvider(new Client($elock->$transport()), 'app:'),
    );
    foreach (['phpredis' => \Redis::class, 'predis' => \Predis\Client::class] as $name => $class) {
        if ($redis !== null && class_exists($class)) {
            $all["Laravel, $name"] = static fn (string $to): \Closure => laravelOnRedis($redis->$to(), $name);
        }
    }
}
if (class_exists(LockFactory::class)) {
    $all['Symfony, elock'] = static fn (string $to): \Closure => symfony(new ElockStore(new Client($elock->$to())));
    if ($redis !== null && class_exists(\Redis::class)) {
        $all['Symfony, phpredis'] = static fn (string $to): \Closure => symfony(
            new SymfonyRedis(phpRedis($redis->$to())),
        );
    }
    if ($redis !== null && class_exists(\Predis\Client::class)) {
        $all['Symfony, predis'] = static fn (string $to): \Closure => symfony(new SymfonyRedis(predis($redis->$to())));
    }
}
$cases = [['tcp', true], ['unix', true], ['tcp', false], ['unix', false]];
$results = [];
for ($run = 0; $run < $runs; $run++) {
    foreach ($cases as $case => [$transport, $isKept]) {
        foreach ($all as $name => $make) {
            $rounds = (int)($isKept ? $options['rounds'] ?? 2000 : $options['new-rounds'] ?? 300);
            $results[$name][$case][] = measure(static fn (): \Closure => $make($transport), $rounds, $isKept);
        }
    }
}
printf("%-18s%14s%14s%14s%14s\n", '', 'tcp, kept', 'unix, kept', 'tcp, new', 'unix, new');
foreach ($results as $name => $ofCases) {
    vprintf("%-18s%14.1f%14.1f%14.1f%14.1f\n", [$name, ...array_map(median(...), $ofCases)]);
}
