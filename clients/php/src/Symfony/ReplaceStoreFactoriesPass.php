<?php

declare(strict_types=1);

namespace Elock\Symfony;

use Symfony\Component\DependencyInjection\ChildDefinition;
use Symfony\Component\DependencyInjection\Compiler\CompilerPassInterface;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\Reference;

/**
 * Symfony's factories of stores are closed lists: services that they make are made by those that know elock as well.
 *
 * @internal
 */
final class ReplaceStoreFactoriesPass implements CompilerPassInterface
{
    private const FACTORIES = [
        'Symfony\Component\Lock\Store\StoreFactory' => ElockStoreFactory::class,
        'Symfony\Component\Semaphore\Store\StoreFactory' => ElockSemaphoreStoreFactory::class,
    ];

    public function process(ContainerBuilder $container): void
    {
        foreach ($container->getDefinitions() as $definition) {
            $factory = $definition->getFactory();
            $replacement = is_array($factory) && is_string($factory[0]) ? self::FACTORIES[$factory[0]] ?? null : null;
            if ($replacement !== null) {
                $definition->setFactory([$replacement, 'createStore']);
            }
        }
        $this->nameStores($container);
    }

    /** For those who need a store itself, for its fencing tokens: Symfony names none. */
    private function nameStores(ContainerBuilder $container): void
    {
        foreach ($container->getDefinitions() as $id => $definition) {
            $isOfFramework = $definition instanceof ChildDefinition
                && $definition->getParent() === 'lock.factory.abstract'
                && preg_match('/^lock\.(.+)\.factory$/', $id, $found);
            $store = $isOfFramework ? $definition->getArgument(0) : null;
            if (!$store instanceof Reference) {
                continue;
            }
            if ($found[1] === 'default') {
                $container->setAlias(ElockStore::class, (string)$store);
            } else {
                $container->registerAliasForArgument((string)$store, ElockStore::class, "$found[1].lock.store");
            }
        }
    }
}
