<?php

/**
 * One process of fairness.php: waits for a lock, holds and releases it, until the end; and tells when, on the clock
 * that all processes share.
 */

declare(strict_types=1);

use Elock\Tests\Scenarios\Drivers\Drivers;
use Elock\Tests\Scenarios\Message;

require __DIR__ . '/../tests/bootstrap.php';

$settings = Message::read($argv[1]);
$driver = Drivers::make($settings['driver'], $settings['address'], 30.0);
$driver->lock('warm ' . getmypid(), 60.0, null, true)->take();
echo "ready\n";
[$begins, $ends] = array_map(intval(...), explode(' ', trim((string)fgets(STDIN))));
$wait = Drivers::isSymfony($settings['driver']) ? 0.0 : 100.0;
$rounds = [];
usleep(max(0, intdiv($begins - hrtime(true), 1000)));
while (($asked = hrtime(true)) < $ends) {
    $lock = $driver->lock('bench', 60.0, null, true);
    $lock->block($wait);
    $granted = hrtime(true);
    $settings['holdMs'] > 0 && usleep($settings['holdMs'] * 1000);
    $released = hrtime(true);
    $lock->release();
    $rounds[] = [$asked, $granted, $released];
}
echo Message::line($rounds), "\n";
