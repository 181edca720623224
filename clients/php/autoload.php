<?php

/**
 * For those without composer: loads the classes of this package as they are used.
 */

declare(strict_types=1);

spl_autoload_register(static function (string $class): void {
    if (!str_starts_with($class, 'Elock\\')) {
        return;
    }
    $file = __DIR__ . '/src/' . str_replace('\\', '/', substr($class, strlen('Elock\\'))) . '.php';
    if (is_file($file)) {
        require $file;
    }
});
