<?php

/**
 * A process that does what it is told: `METHOD RESOURCE [ARGUMENT]`, a line each, to a store and the keys that it has,
 * one for each resource. It says what came of it: `ok`, `true`, `false`, a number, or the class of the exception.
 *
 * Arguments: the server's address; the longest wait in seconds, if there is one.
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Symfony\ElockSemaphoreStore;
use Elock\Symfony\ElockStore;
use Symfony\Component\Lock\Key;
use Symfony\Component\Semaphore\Key as SemaphoreKey;

require __DIR__ . '/../bootstrap.php';

[, $address, $longestWait] = $argv + [2 => null];
$client = new Client($address);
$store = new ElockStore($client, 300.0, $longestWait === null ? null : (float)$longestWait);
$semaphores = class_exists(SemaphoreKey::class) ? new ElockSemaphoreStore($client) : null;
$keys = [];

while (($line = fgets(STDIN)) !== false) {
    [$method, $resource, $argument] = explode(' ', trim($line)) + [2 => ''];
    $keys[$resource] ??= new Key($resource);
    try {
        $result = match ($method) {
            // Its limit and its weight.
            'semaphore' => $keys[$resource] = new SemaphoreKey(
                $resource,
                ...array_map(intval(...), explode(',', $argument)),
            ),
            'export' => base64_encode(serialize($keys[$resource])),
            'import' => $keys[$resource] = unserialize(base64_decode($argument)),
            'putOffExpiration' => ($keys[$resource] instanceof Key ? $store : $semaphores)
                ->putOffExpiration($keys[$resource], (float)$argument),
            'take' => $semaphores->save($keys[$resource], (float)$argument),
            default => ($keys[$resource] instanceof Key ? $store : $semaphores)->$method($keys[$resource]),
        };
        echo match (true) {
            is_bool($result) => var_export($result, true),
            is_int($result), is_string($result) => $result,
            default => 'ok',
        }, "\n";
    } catch (Throwable $problem) {
        echo (new ReflectionClass($problem))->getShortName(), "\n";
    }
}
