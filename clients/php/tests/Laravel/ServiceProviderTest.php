<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Elock\Client;
use Elock\Exception\ConnectionException;
use Elock\Laravel\ElockLockProvider;
use Elock\Laravel\ElockServiceProvider;
use Illuminate\Support\ServiceProvider;

final class ServiceProviderTest extends ApplicationTestCase
{
    private const SETTINGS = __DIR__ . '/../../src/Laravel/config/elock.php';

    public function testOneClientForTheApplication(): void
    {
        $app = $this->app();
        self::assertSame($app->make(Client::class), $app->make(Client::class));
        $lock = $app->make(ElockLockProvider::class)->lock('a', 60);
        self::assertTrue($lock->get());
        self::assertNotNull(self::seen('a'));
        self::assertFalse($app->make(Client::class)->owner()->unlock('a'));
        self::assertTrue($lock->release());
    }

    public function testItConnectsWhenALockIsUsed(): void
    {
        $app = $this->app(['elock.servers' => 'tcp://127.0.0.1:1']);
        $lock = $app->make(ElockLockProvider::class)->lock('a', 60);
        self::assertNull($app->make('cache')->get('nothing'));
        self::thrown(ConnectionException::class, static fn () => $lock->get());
    }

    public function testTheSettingsReachTheClient(): void
    {
        $app = $this->app(['elock.name' => 'shop', 'elock.grace' => '77', 'elock.prefix' => 'shop:',
            'elock.default_seconds' => '500', 'elock.keys' => 'encoded']);
        $app->make(ElockLockProvider::class)->lock('a')->boundToConnection()->get();
        $app->make(ElockLockProvider::class)->lock('b')->get();
        self::assertSame('shop', self::seen('shop:a')['holders'][0]['name']);
        self::assertEqualsWithDelta(500, self::leaseOf('shop:b'), 30);
        $session = array_values(array_filter(
            iterator_to_array(self::observer()->sessions()),
            static fn (array $session): bool => ($session['name'] ?? '') === 'shop',
        ))[0];
        self::assertSame(77000, $session['grace_ms']);
    }

    public function testKeysOfThePublicClient(): void
    {
        $this->app(['elock.keys' => 'sha1'])->make(ElockLockProvider::class)->lock('a', 60)->get();
        self::assertNotNull(self::seen(sha1('a')));
    }

    public function testNoDefaultLimit(): void
    {
        $this->app(['elock.default_seconds' => 0])->make(ElockLockProvider::class)->lock('a')->get();
        self::assertNull(self::leaseOf('a'));
        $this->app(['elock.default_seconds' => null])->make(ElockLockProvider::class)->lock('b')->get();
        self::assertNull(self::leaseOf('b'));
    }

    /** @dataProvider listsOfServers */
    public function testSeveralServersInOrderOfPreference(\Closure $servers): void
    {
        $app = $this->app(['elock.servers' => $servers('unix:///none', self::$server->unix())]);
        self::assertTrue($app->make(ElockLockProvider::class)->lock('a', 60)->get());
        self::assertNotNull(self::seen('a'));
    }

    /** @return array<string, array{\Closure}> */
    public static function listsOfServers(): array
    {
        return [
            'a list' => [static fn (string $first, string $second): array => [$first, $second]],
            'from the environment' => [static fn (string $first, string $second): string => "$first, $second"],
        ];
    }

    /** @dataProvider badSettings */
    public function testBadSettings(string $name, mixed $value): void
    {
        $app = $this->app([$name => $value]);
        self::thrown(\InvalidArgumentException::class, static fn () => $app->make(ElockLockProvider::class));
    }

    /** What the application does without locks, it does all the same. */
    public function testBadSettingsAreNoMatterOfTheCache(): void
    {
        $stores = ['elock' => ['driver' => 'elock', 'store' => 'array'], 'array' => ['driver' => 'array']];
        $app = $this->app(['elock.servers' => '', 'cache.default' => 'elock', 'cache.stores' => $stores]);
        $cache = $app->make('cache')->store();
        $cache->put('a', 'b', 60);
        self::assertSame('b', $cache->get('a'));
        $problem = self::thrown(\InvalidArgumentException::class, static fn () => $cache->lock('a', 60));
        self::assertStringContainsString('ELOCK_SERVERS', $problem->getMessage());
    }

    public function testAnEmptyVariableIsNotSet(): void
    {
        $empty = ['elock.grace' => '', 'elock.timeout' => '', 'elock.keys' => '', 'elock.default_seconds' => ''];
        $this->app($empty)->make(ElockLockProvider::class)->lock('a')->get();
        self::assertEqualsWithDelta(86400, self::leaseOf('a'), 60);
    }

    /** @return array<string, array{string, mixed}> */
    public static function badSettings(): array
    {
        return [
            'no server' => ['elock.servers', ''],
            'no address' => ['elock.servers', 'redis://127.0.0.1'],
            'a list of nothing' => ['elock.servers', [null]],
            'no such keys' => ['elock.keys', 'md5'],
            'no number' => ['elock.timeout', 'long'],
            'no number of seconds' => ['elock.default_seconds', 'long'],
            'a setting that there is not' => ['elock.server', 'tcp://127.0.0.1'],
        ];
    }

    public function testTheSettingsCanBeCached(): void
    {
        $settings = require self::SETTINGS;
        self::assertSame($settings, eval('return ' . var_export($settings, true) . ';'));
        $app = $this->app();
        self::assertSame([], array_diff_key($settings, $app->make('config')->get('elock')));
    }

    public function testTheSettingsArePublished(): void
    {
        $app = $this->app();
        $paths = ServiceProvider::pathsToPublish(ElockServiceProvider::class, 'elock');
        self::assertSame([$app->configPath('elock.php')], array_values($paths));
        self::assertFileEquals(self::SETTINGS, (string)array_key_first($paths));
    }

    public function testLostConnectionsAreLogged(): void
    {
        $logger = new Log();
        $app = $this->app();
        $app->instance('log', $logger);
        $lock = $app->make(ElockLockProvider::class)->lock('a')->boundToConnection();
        $lock->get();
        self::$server->kill();
        self::$server->run();
        self::assertFalse($lock->isOwnedByCurrentProcess());
        self::assertContains('warning', $logger->levels);
    }
}
