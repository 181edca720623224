<?php

declare(strict_types=1);

use Elock\Client;
use Elock\Laravel\ElockLockProvider;
use Elock\Options;
use Elock\Tests\Laravel\App;

require __DIR__ . '/../bootstrap.php';

[, $server, $settings, $grace] = $argv;
$settings = json_decode($settings, true);
$grace = json_decode($grace);
if ($settings !== []) {
    $app = App::of($settings);
}
$locks = new ElockLockProvider(new Client($server, new Options(grace: $grace)));

while (is_string($line = fgets(STDIN))) {
    try {
        $answer = ['result' => eval(json_decode($line))];
    } catch (Throwable $thrown) {
        $answer = ['thrown' => get_class($thrown), 'message' => $thrown->getMessage()];
        if (method_exists($thrown, 'circle')) {
            $answer['circle'] = $thrown->circle();
        }
    }
    fwrite(STDOUT, json_encode($answer, JSON_THROW_ON_ERROR) . "\n");
}
