<?php

declare(strict_types=1);

namespace Elock\Tests\Symfony;

use Elock\Client;
use Elock\Symfony\ElockSemaphoreStore;
use Elock\Symfony\ElockStore;
use Elock\Symfony\ReplaceStoreFactoriesPass;
use Elock\Tests\Support\Server;
use Symfony\Bundle\FrameworkBundle\DependencyInjection\FrameworkExtension;
use Symfony\Bundle\FrameworkBundle\FrameworkBundle;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\Lock\Exception\LockAcquiringException;
use Symfony\Component\Lock\Key;
use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Semaphore\PersistingStoreInterface as SemaphoreStoreInterface;
use Symfony\Component\Semaphore\Store\StoreFactory as SemaphoreStoreFactory;

/** A kernel with the real FrameworkBundle. */
final class BundleTest extends SymfonyTestCase
{
    private ?TestKernel $kernel = null;

    protected function setUp(): void
    {
        if (!class_exists(FrameworkBundle::class)) {
            self::markTestSkipped('symfony/framework-bundle is not installed');
        }
        parent::setUp();
    }

    protected function tearDown(): void
    {
        $this->kernel?->end();
        unset($_ENV['LOCK_DSN'], $_ENV['OTHER_DSN']);
    }

    public function testOneDsn(): void
    {
        $_ENV['LOCK_DSN'] = $this->dsn() . '?timeout=3';
        [$factory, $same] = $this->boot('%env(LOCK_DSN)%', 'lock.factory', LockFactory::class);
        $lock = $factory->createLock('report', 30.0);
        self::assertTrue($lock->acquire());
        self::assertFalse($same->createLock('report')->acquire());
        self::assertSame(['report'], $this->keys($this->server));
        $lock->release();
        self::assertTrue($same->createLock('report')->acquire(true));
    }

    public function testAUnixSocket(): void
    {
        $_ENV['LOCK_DSN'] = str_replace('unix://', 'elock+unix:', $this->server->unix());
        [$factory] = $this->boot('%env(LOCK_DSN)%', 'lock.factory');
        $lock = $factory->createLock('report');
        self::assertTrue($lock->acquire());
        self::assertSame(['report'], $this->keys($this->server));
    }

    public function testADsnThatIsNoVariable(): void
    {
        [$factory] = $this->boot($this->dsn(), 'lock.factory');
        $lock = $factory->createLock('report');
        self::assertTrue($lock->acquire());
        self::assertSame(['report'], $this->keys($this->server));
    }

    public function testTheServerIsNeededOnlyWhenALockIs(): void
    {
        $_ENV['LOCK_DSN'] = 'elock://127.0.0.1:1';
        [$factory] = $this->boot('%env(LOCK_DSN)%', 'lock.factory');
        $lock = $factory->createLock('report');
        self::thrown(LockAcquiringException::class, static fn () => $lock->acquire());
    }

    public function testAListIsACombinedStore(): void
    {
        [$second, $third] = [Server::start(), Server::start()];
        $_ENV['LOCK_DSN'] = $this->dsn();
        $_ENV['OTHER_DSN'] = $this->dsn($second);
        [$factory] = $this->boot(['%env(LOCK_DSN)%', '%env(OTHER_DSN)%', $this->dsn($third)], 'lock.factory');
        $lock = $factory->createLock('report');
        self::assertTrue($lock->acquire());
        foreach ([$this->server, $second, $third] as $server) {
            self::assertSame(['report'], $this->keys($server));
        }
        $second->kill();
        self::assertTrue($lock->isAcquired());
        $lock->release();
        self::assertTrue($lock->acquire());
        self::assertFalse($factory->createLock('report')->acquire());
        $third->kill();
        self::assertFalse($lock->isAcquired());
        self::assertFalse($factory->createLock('other')->acquire());
    }

    public function testAListWithAStoreOfSymfonys(): void
    {
        [$factory] = $this->boot([$this->dsn(), 'in-memory', 'flock'], 'lock.factory');
        $lock = $factory->createLock('report');
        self::assertTrue($lock->acquire());
        self::assertFalse($factory->createLock('report')->acquire());
        self::assertSame(['report'], $this->keys($this->server));
    }

    public function testNamedResources(): void
    {
        $second = Server::start();
        $_ENV['LOCK_DSN'] = $this->dsn();
        $_ENV['OTHER_DSN'] = $this->dsn($second);
        [$default, $invoices, $files] = $this->boot(
            ['default' => '%env(LOCK_DSN)%', 'invoices' => '%env(OTHER_DSN)%', 'files' => 'in-memory'],
            'lock.default.factory',
            'lock.invoices.factory',
            'lock.files.factory',
        );
        [$one, $two, $three] = [
            $default->createLock('report'),
            $invoices->createLock('bill'),
            $files->createLock('file'),
        ];
        self::assertTrue($one->acquire() && $two->acquire() && $three->acquire());
        self::assertSame(['report'], $this->keys($this->server));
        self::assertSame(['bill'], $this->keys($second));
        // Before its server ends, so that its end has nothing to release.
        $two->release();
    }

    public function testTheStoreItselfForItsTokens(): void
    {
        $_ENV['LOCK_DSN'] = $this->dsn();
        [$factory, $store, $invoices, $invoiceStore] = $this->boot(
            ['default' => '%env(LOCK_DSN)%', 'invoices' => $this->dsn() . '?ttl=50'],
            'lock.factory',
            ElockStore::class,
            'lock.invoices.factory',
            ElockStore::class . ' $invoicesLockStore',
        );
        $key = new Key('report');
        $lock = $factory->createLockFromKey($key);
        $lock->acquire();
        self::assertSame($this->token('report'), $store->token($key));
        $key = new Key('bill');
        $lock = $invoices->createLockFromKey($key);
        $lock->acquire();
        self::assertSame($this->token('bill'), $invoiceStore->token($key));
    }

    public function testSemaphoresByTheBundle(): void
    {
        if (!method_exists(FrameworkExtension::class, 'registerSemaphoreConfiguration')) {
            self::markTestSkipped('this FrameworkBundle knows no semaphores');
        }
        $_ENV['LOCK_DSN'] = $this->dsn();
        $this->kernel = new TestKernel(['semaphore' => '%env(LOCK_DSN)%'], ['semaphore.factory']);
        [$factory] = $this->kernel->services();
        $semaphore = $factory->createSemaphore('seats', 3, 2);
        self::assertTrue($semaphore->acquire());
        self::assertFalse($factory->createSemaphore('seats', 3, 2)->acquire());
        self::assertSame(['seats'], $this->keys($this->server));
    }

    public function testSemaphoresByTheCompilerPass(): void
    {
        if (!class_exists(SemaphoreStoreFactory::class)) {
            self::markTestSkipped('symfony/semaphore is not installed');
        }
        $container = new ContainerBuilder();
        $container->register('seats', SemaphoreStoreInterface::class)
            ->setFactory([SemaphoreStoreFactory::class, 'createStore'])
            ->setArguments([$this->dsn()])
            ->setPublic(true);
        $container->register('lock.of_the_application.factory', \ArrayObject::class);
        $container->addCompilerPass(new ReplaceStoreFactoriesPass());
        $container->compile();
        self::assertInstanceOf(ElockSemaphoreStore::class, $container->get('seats'));
    }

    /**
     * @param string|array<array-key, string> $lock the configuration of `framework: lock:`
     * @return list<mixed>
     */
    private function boot(string|array $lock, string ...$services): array
    {
        $this->kernel = new TestKernel(['lock' => $lock], array_values($services));
        return $this->kernel->services();
    }

    private function dsn(?Server $server = null): string
    {
        return str_replace('tcp://', 'elock://', ($server ?? $this->server)->tcp());
    }

    /** @return list<string> what is held there */
    private function keys(Server $server): array
    {
        return array_column(iterator_to_array((new Client($server->tcp()))->locks(), false), 'key');
    }

    private function token(string $key): int
    {
        return (new Client($this->server->tcp()))->holder($key)->token ?? 0;
    }
}
