<?php

/**
 * A process of a scenario: does with its locks what it is told, and says what came of it.
 */

declare(strict_types=1);

use Elock\Tests\Scenarios\Agent;
use Elock\Tests\Scenarios\Drivers\Drivers;
use Elock\Tests\Scenarios\Faults\Fault;
use Elock\Tests\Scenarios\Message;

require __DIR__ . '/../bootstrap.php';

$settings = Message::read($argv[1]);
$fault = $settings['fault'] === null ? null : Fault::from($settings['fault']);
$driver = Drivers::make($settings['driver'], $settings['address'], $settings['timeout'], $fault);
(new Agent($driver))->run();
