<?php

/**
 * What blocks of README.md take for granted: classes, an application's functions, and Laravel's facade.
 */

declare(strict_types=1);

use Elock\Laravel\ElockServiceProvider;
use Illuminate\Cache\CacheServiceProvider;
use Illuminate\Config\Repository;
use Illuminate\Container\Container;
use Illuminate\Support\Facades\Facade;

require __DIR__ . '/../../bootstrap.php';
require __DIR__ . '/readme_functions.php';

if (class_exists(CacheServiceProvider::class)) {
    $app = new Container();
    $app->instance('config', new Repository([
        'elock' => ['servers' => getenv('ELOCK_SERVER')],
        'cache' => ['default' => 'elock', 'prefix' => 'app', 'stores' => [
            'array' => ['driver' => 'array'],
            'elock' => ['driver' => 'elock', 'store' => 'array'],
        ]],
    ]));
    Facade::setFacadeApplication($app);
    (new CacheServiceProvider($app))->register();
    (new ElockServiceProvider($app))->register();
}
