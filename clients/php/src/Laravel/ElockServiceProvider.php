<?php

declare(strict_types=1);

namespace Elock\Laravel;

use Elock\Client;
use Elock\Options;
use Illuminate\Cache\CacheManager;
use Illuminate\Contracts\Container\Container;
use Illuminate\Support\ServiceProvider;

/**
 * Gives an application the cache driver `elock`, and {@see Client} and {@see ElockLockProvider} by their classes. The
 * client connects when it is first used. Settings are in `config/elock.php`.
 */
class ElockServiceProvider extends ServiceProvider
{
    private const SETTINGS = __DIR__ . '/config/elock.php';
    /** What is none of the client's. */
    private const OWN_SETTINGS = ['servers' => true, 'prefix' => true, 'default_seconds' => true];

    /** Binds what the application may ask for. */
    public function register(): void
    {
        $this->mergeConfigFrom(self::SETTINGS, 'elock');
        $this->app->singleton(Client::class, function (Container $app): Client {
            $settings = self::settings($app);
            $logger = $app->bound('log') ? $app->make('log') : null;
            $options = Options::fromArray(array_diff_key($settings, self::OWN_SETTINGS), $logger);
            return new Client(self::servers($settings['servers'] ?? null), $options);
        });
        $this->app->singleton(ElockLockProvider::class, function (Container $app): ElockLockProvider {
            $settings = self::settings($app);
            $prefix = $settings['prefix'] ?? '';
            $seconds = array_key_exists('default_seconds', $settings)
                ? $settings['default_seconds'] ?? 0
                : ElockLockProvider::DEFAULT_SECONDS;
            if (!is_scalar($prefix) || !is_numeric($seconds)) {
                throw new \InvalidArgumentException(
                    'config/elock.php: "prefix" (ELOCK_PREFIX) is text, and "default_seconds" (ELOCK_DEFAULT_SECONDS)'
                    . ' a number',
                );
            }
            return new ElockLockProvider($app->make(Client::class), (string)$prefix, (int)$seconds);
        });
        $this->callAfterResolving('cache', function (CacheManager $caches): void {
            // The cache binds it to itself, which a static function cannot be in older versions.
            $caches->extend('elock', function (Container $app, array $config) {
                return (new StoreFactory($app))->repository($config);
            });
        });
    }

    /** Lets `php artisan vendor:publish --tag=elock` copy the settings. */
    public function boot(): void
    {
        if ($this->app->runningInConsole()) {
            $this->publishes([self::SETTINGS => $this->app->configPath('elock.php')], 'elock');
        }
    }

    /** @return array<array-key, mixed> */
    private static function settings(Container $app): array
    {
        $settings = $app->make('config')->get('elock');
        // An empty variable is one that is not set.
        return is_array($settings) ? array_filter($settings, static fn (mixed $one): bool => $one !== '') : [];
    }

    /** @return non-empty-list<string> */
    private static function servers(mixed $servers): array
    {
        $servers = is_string($servers) ? explode(',', $servers) : $servers;
        $servers = is_array($servers) ? array_values(array_filter(array_map(
            static fn (mixed $server): string => is_string($server) ? trim($server) : '',
            $servers,
        ))) : [];
        return $servers !== [] ? $servers : throw new \InvalidArgumentException(
            'config/elock.php: "servers" (ELOCK_SERVERS) is empty; it is the address of a server, or a list of some',
        );
    }
}
