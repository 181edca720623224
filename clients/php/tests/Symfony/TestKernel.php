<?php

declare(strict_types=1);

namespace Elock\Tests\Symfony;

use Elock\Symfony\ElockBundle;
use Psr\Log\NullLogger;
use Symfony\Bundle\FrameworkBundle\FrameworkBundle;
use Symfony\Component\Config\Loader\LoaderInterface;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\Reference;
use Symfony\Component\Filesystem\Filesystem;
use Symfony\Component\HttpKernel\Kernel;

/** An application of FrameworkBundle and ElockBundle, and nothing else. */
final class TestKernel extends Kernel
{
    private readonly string $directory;

    /**
     * @param array<string, mixed> $framework the configuration of `framework`
     * @param list<string> $services those that a test asks for
     */
    public function __construct(private readonly array $framework, private readonly array $services)
    {
        $this->directory = sys_get_temp_dir() . '/elock-kernel-' . bin2hex(random_bytes(6));
        parent::__construct('test', false);
    }

    public function registerBundles(): iterable
    {
        return [new FrameworkBundle(), new ElockBundle()];
    }

    public function registerContainerConfiguration(LoaderInterface $loader): void
    {
        $loader->load(function (ContainerBuilder $container): void {
            $container->loadFromExtension('framework', ['secret' => 'none', 'test' => true] + $this->framework);
            $container->register('logger', NullLogger::class);
            $services = array_map(static fn (string $id): Reference => new Reference($id), $this->services);
            $container->register('services', \ArrayObject::class)->setPublic(true)->setArguments([$services]);
        });
    }

    /** @return list<object> those that were asked for */
    public function services(): array
    {
        $this->boot();
        return $this->getContainer()->get('services')->getArrayCopy();
    }

    public function end(): void
    {
        $this->shutdown();
        (new Filesystem())->remove($this->directory);
    }

    public function getProjectDir(): string
    {
        return $this->directory;
    }

    public function getCacheDir(): string
    {
        return "$this->directory/cache";
    }

    public function getLogDir(): string
    {
        return "$this->directory/log";
    }
}
