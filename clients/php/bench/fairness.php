<?php

/**
 * How fair block() is, and how fast a lock passes on: processes that all want one lock, under Laravel and Symfony, on
 * elock and on Redis, each in turn within a run. It starts its own servers.
 *
 *     php fairness.php [--processes=20] [--seconds=5] [--runs=3] [--holds=10,0] [--transport=unix]
 *
 * Each process does block(), holds the lock for so many milliseconds, releases it, and begins again. Printed are the
 * medians of the runs (the worst of them for the spread): grants per second; of a process the fewest and the most, and
 * the spread between them; the median and the longest wait in block(); and the hand-over, from the call of release() in
 * one process to the return of block() in the next, where that waited already.
 */

declare(strict_types=1);

use Elock\Tests\Scenarios\Backends\ElockBackend;
use Elock\Tests\Scenarios\Backends\RedisBackend;
use Elock\Tests\Scenarios\Drivers\Drivers;
use Elock\Tests\Scenarios\Message;
use Elock\Tests\Support\Worker;

require __DIR__ . '/../tests/bootstrap.php';

function percentile(array $values, float $part): float
{
    sort($values);
    return $values === [] ? NAN : $values[(int)min(count($values) - 1, floor($part * count($values)))];
}

/** @return array<string, float> */
function run(string $driver, int $processes, float $seconds, int $holdMs, string $transport): array
{
    $backend = Drivers::isOnRedis($driver) ? new RedisBackend(false) : new ElockBackend(false);
    $settings = ['driver' => $driver, 'address' => $backend->unix(), 'holdMs' => $holdMs];
    if ($transport === 'tcp') {
        $backend = Drivers::isOnRedis($driver) ? new RedisBackend(false, freePort()) : $backend;
        $settings['address'] = $backend->tcp();
    }
    $workers = [];
    for ($number = 0; $number < $processes; $number++) {
        $workers[] = new Worker(__DIR__ . '/fairness-worker.php', [Message::line($settings)]);
    }
    array_map(static fn (Worker $worker): ?string => $worker->hear(), $workers);
    $begins = hrtime(true) + 100_000_000;
    $ends = $begins + (int)($seconds * 1e9);
    array_map(static fn (Worker $worker) => $worker->tell("$begins $ends"), $workers);
    $all = [];
    $grants = [];
    foreach ($workers as $worker) {
        $rounds = Message::read((string)$worker->hear(120.0));
        $all = [...$all, ...$rounds];
        $grants[] = count(array_filter($rounds, static fn (array $round): bool => $round[1] <= $ends));
    }
    usort($all, static fn (array $one, array $other): int => $one[1] <=> $other[1]);
    $handOvers = [];
    foreach (array_slice($all, 1) as $position => [$asked, $granted]) {
        $released = $all[$position][2];
        if ($asked < $released) {
            $handOvers[] = ($granted - $released) / 1e6;
        }
    }
    $waits = array_map(static fn (array $round): float => ($round[1] - $round[0]) / 1e6, $all);
    return [
        'grants/s' => array_sum($grants) / $seconds,
        'fewest' => min($grants),
        'most' => max($grants),
        'spread' => max($grants) - min($grants),
        'median wait' => percentile($waits, 0.5),
        'longest wait' => max($waits),
        'hand-over' => percentile($handOvers, 0.5),
        'p99' => percentile($handOvers, 0.99),
    ];
}

function freePort(): int
{
    $socket = stream_socket_server('tcp://127.0.0.1:0');
    return (int)substr((string)strrchr(stream_socket_get_name($socket, false), ':'), 1);
}

$options = getopt('', ['processes:', 'seconds:', 'runs:', 'holds:', 'transport:']);
$processes = (int)($options['processes'] ?? 20);
$seconds = (float)($options['seconds'] ?? 5);
$runs = (int)($options['runs'] ?? 3);
$transport = $options['transport'] ?? 'unix';
$drivers = array_diff(Drivers::ALL, [Drivers::PLAIN]);
echo "$processes processes, $seconds s each, $runs runs, $transport; waits and hand-overs in ms\n";
foreach (explode(',', $options['holds'] ?? '10,0') as $holdMs) {
    $results = [];
    for ($run = 0; $run < $runs; $run++) {
        foreach ($drivers as $driver) {
            if (Drivers::missing($driver) === null) {
                $results[$driver][] = run($driver, $processes, $seconds, (int)$holdMs, $transport);
            }
        }
    }
    printf("\nheld for %d ms\n%-18s", $holdMs, '');
    foreach (array_keys(reset($results)[0]) as $column) {
        printf('%14s', $column);
    }
    foreach ($results as $driver => $ofRuns) {
        printf("\n%-18s", $driver);
        foreach (array_keys($ofRuns[0]) as $column) {
            $values = array_column($ofRuns, $column);
            printf('%14s', round($column === 'spread' ? max($values) : percentile($values, 0.5), 2));
        }
    }
    echo "\n";
}
