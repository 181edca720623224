<?php

/** Adds 1 to the number in a file, so many times, each time under a lock. Arguments: the server, the file, the times. */

declare(strict_types=1);

use Elock\Client;
use Elock\Symfony\ElockStore;
use Symfony\Component\Lock\LockFactory;

require __DIR__ . '/../bootstrap.php';

[, $address, $file, $times] = $argv;
$factory = new LockFactory(new ElockStore(new Client($address)));
fgets(STDIN);
for ($time = 0; $time < (int)$times; $time++) {
    $lock = $factory->createLock('count', 30.0);
    $lock->acquire(true);
    $count = (int)file_get_contents($file);
    usleep(random_int(0, 300));
    file_put_contents($file, (string)($count + 1));
    $lock->release();
}
echo "done\n";
