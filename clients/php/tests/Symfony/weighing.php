<?php

/**
 * Holds a semaphore, so many times, and counts in a file what all hold together. Arguments: the server, the file, the
 * limit, the weight, the times.
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Symfony\ElockSemaphoreStore;
use Symfony\Component\Semaphore\SemaphoreFactory;

require __DIR__ . '/../bootstrap.php';

[, $address, $path, $limit, $weight, $times] = $argv;
$factory = new SemaphoreFactory(new ElockSemaphoreStore(new Client($address)));
$add = static function (int $weight) use ($path): int {
    $file = fopen($path, 'c+');
    flock($file, LOCK_EX);
    $sum = (int)stream_get_contents($file) + $weight;
    ftruncate($file, 0);
    rewind($file);
    fwrite($file, (string)$sum);
    fclose($file);
    return $sum;
};
fgets(STDIN);
for ($time = 0; $time < (int)$times; $time++) {
    $semaphore = $factory->createSemaphore('seats', (int)$limit, (int)$weight, 60.0);
    while (!$semaphore->acquire()) {
        usleep(random_int(100, 2000));
    }
    $sum = $add((int)$weight);
    if ($sum > (int)$limit) {
        echo "they hold $sum\n";
        exit(1);
    }
    usleep(random_int(0, 1000));
    $add(-(int)$weight);
    $semaphore->release();
}
echo "done\n";
