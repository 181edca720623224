<?php

/**
 * The classes that tests use: this package's, and the frameworks', by composer's `vendor` or as Debian installs them.
 * A framework that is not there skips its tests.
 */

declare(strict_types=1);

error_reporting(E_ALL & ~E_DEPRECATED);

require __DIR__ . '/../autoload.php';

spl_autoload_register(static function (string $class): void {
    if (str_starts_with($class, 'Elock\\Tests\\')) {
        $file = __DIR__ . '/' . str_replace('\\', '/', substr($class, strlen('Elock\\Tests\\'))) . '.php';
        is_file($file) && require $file;
    }
});

$installed = is_file(__DIR__ . '/../vendor/autoload.php') ? [__DIR__ . '/../vendor/autoload.php'] : [
    '/usr/share/php/Psr/Log/autoload.php',
    '/usr/share/php/Symfony/Component/Lock/autoload.php',
    '/usr/share/php/Symfony/Component/Semaphore/autoload.php',
    '/usr/share/php/Symfony/Component/Cache/autoload.php',
    '/usr/share/php/Symfony/Component/Yaml/autoload.php',
    '/usr/share/php/Symfony/Bundle/FrameworkBundle/autoload.php',
    '/usr/share/php/Illuminate/autoload.php',
    '/usr/share/php/Predis/autoload.php',
    '/usr/share/php/Mockery/autoload.php',
];
foreach ($installed as $file) {
    is_file($file) && require_once $file;
}
