<?php

/**
 * Plays one scenario, and says what came of it.
 */

declare(strict_types=1);

use Elock\Tests\Scenarios\Message;

require __DIR__ . '/../bootstrap.php';

echo Message::line(Message::read($argv[1])->play()), "\n";
