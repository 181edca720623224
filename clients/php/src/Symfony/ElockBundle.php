<?php

declare(strict_types=1);

namespace Elock\Symfony;

use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\HttpKernel\Bundle\Bundle;

/**
 * Makes `elock://HOST:PORT`, `elocks://HOST:PORT` and `elock+unix:/PATH` stores of `framework: lock:` and
 * `framework: semaphore:`, alone, in lists, and for named resources. Put it into `config/bundles.php`:
 *
 *     Elock\Symfony\ElockBundle::class => ['all' => true],
 */
final class ElockBundle extends Bundle
{
    public function build(ContainerBuilder $container): void
    {
        parent::build($container);
        $container->addCompilerPass(new ReplaceStoreFactoriesPass());
    }
}
