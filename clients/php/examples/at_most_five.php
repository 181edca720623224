<?php

/**
 * At most five at a time, on however many machines: php at_most_five.php < addresses
 */

declare(strict_types=1);

use Elock\Client;

require __DIR__ . '/../autoload.php';

$client = Client::connect(getenv('ELOCK_SERVER') ?: 'tcp://127.0.0.1:11400');
$slot = $client->lockSlot('mailer', 5, wait: 600);
echo "in\n";
while (($address = fgets(STDIN)) !== false) {
    if (!$slot->isHeld()) {
        throw new RuntimeException('the slot is lost: five others may be sending');
    }
    echo 'a mail to ', $address;
}
$slot->release() || throw new RuntimeException('the slot was lost at the last mail');
