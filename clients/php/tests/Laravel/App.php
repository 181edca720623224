<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Elock\Laravel\ElockServiceProvider;
use Illuminate\Bus\BusServiceProvider;
use Illuminate\Cache\CacheServiceProvider;
use Illuminate\Config\Repository;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Database\DatabaseServiceProvider;
use Illuminate\Filesystem\FilesystemServiceProvider;
use Illuminate\Foundation\Application;
use Illuminate\Queue\QueueServiceProvider;
use Illuminate\Redis\RedisServiceProvider;
use Illuminate\Session\SessionServiceProvider;
use Illuminate\Support\Facades\Facade;

/**
 * An application of Laravel's, of the parts that locks are used by.
 */
final class App
{
    private const PROVIDERS = [
        FilesystemServiceProvider::class,
        CacheServiceProvider::class,
        RedisServiceProvider::class,
        DatabaseServiceProvider::class,
        BusServiceProvider::class,
        QueueServiceProvider::class,
        SessionServiceProvider::class,
        ElockServiceProvider::class,
    ];

    /**
     * @param array<string, mixed> $settings `base`, a directory of its own; and whatever else, by its name in Laravel's
     *     configuration
     */
    public static function of(array $settings): Application
    {
        $base = $settings['base'];
        $app = new Application($base);
        $app->instance('config', $config = new Repository(self::configuration($base)));
        foreach (array_diff_key($settings, ['base' => true]) as $name => $value) {
            $config->set($name, $value);
        }
        $app->instance('env', 'testing');
        $app->instance(ExceptionHandler::class, new Handler());
        // Not there in 8.83, and asked for by workers since.
        $app->bind('Illuminate\Contracts\Foundation\MaintenanceMode', 'Illuminate\Foundation\FileBasedMaintenanceMode');
        Facade::clearResolvedInstances();
        Facade::setFacadeApplication($app);
        foreach (self::PROVIDERS as $provider) {
            $app->register($provider);
        }
        $app->boot();
        return $app;
    }

    /** @return array<string, mixed> */
    private static function configuration(string $base): array
    {
        return [
            'app' => ['name' => 'test', 'timezone' => 'UTC', 'cipher' => 'AES-256-CBC'],
            'cache' => ['default' => 'elock', 'prefix' => 'app', 'stores' => [
                'elock' => ['driver' => 'elock', 'store' => 'file'],
                'file' => ['driver' => 'file', 'path' => "$base/cache"],
                'array' => ['driver' => 'array'],
                'redis' => ['driver' => 'redis', 'connection' => 'default'],
            ]],
            'database' => [
                'default' => 'sqlite',
                'connections' => ['sqlite' => [
                    'driver' => 'sqlite', 'database' => "$base/database", 'prefix' => '', 'busy_timeout' => 10_000,
                ]],
                'redis' => ['client' => 'predis', 'options' => []],
            ],
            'logging' => ['default' => 'null', 'channels' => [
                'null' => ['driver' => 'monolog', 'handler' => \Monolog\Handler\NullHandler::class],
            ]],
            'queue' => [
                'default' => 'database',
                'connections' => ['database' => [
                    'driver' => 'database', 'table' => 'jobs', 'queue' => 'default', 'retry_after' => 600,
                ]],
            ],
            'session' => [
                'driver' => 'file', 'files' => "$base/sessions", 'lifetime' => 60, 'lottery' => [0, 100],
                'cookie' => 'session', 'path' => '/', 'domain' => null, 'secure' => false, 'expire_on_close' => false,
            ],
        ];
    }
}
