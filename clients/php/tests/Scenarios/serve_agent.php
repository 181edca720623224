<?php

/**
 * A process of a scenario: does with its locks what it is told, and says what came of it.
 */

declare(strict_types=1);

use Elock\Tests\Scenarios\Agent;
use Elock\Tests\Scenarios\Drivers\Drivers;
use Elock\Tests\Scenarios\Message;

require __DIR__ . '/../bootstrap.php';

$settings = Message::read($argv[1]);
$driver = Drivers::make($settings['driver'], $settings['address'], $settings['timeout'], $settings['fault']);
fwrite(STDOUT, Message::line(['ready', '']) . "\n");
(new Agent($driver))->run();
