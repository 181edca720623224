<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

/**
 * All scenarios, by name: each is a public method of a class in `Catalogue/`.
 */
final class Scenarios
{
    private const CLASSES = [
        Catalogue\Elsewhere::class,
        Catalogue\Endings::class,
        Catalogue\Leases::class,
        Catalogue\Names::class,
        Catalogue\Waiting::class,
        Catalogue\Forks::class,
        Catalogue\Outages::class,
    ];

    /** @return array<string, \ReflectionMethod> */
    public static function all(): array
    {
        $all = [];
        foreach (self::CLASSES as $class) {
            foreach ((new \ReflectionClass($class))->getMethods(\ReflectionMethod::IS_PUBLIC) as $method) {
                $all[$method->getName()] = $method;
            }
        }
        return $all;
    }

    /**
     * @return array<string, string> what was other than the scenario has it, by its step
     * @throws NotOffered the framework cannot play it
     */
    public static function play(Job $job): array
    {
        $method = self::all()[$job->scenario];
        $play = ($method->getAttributes(Play::class)[0] ?? null)?->newInstance() ?? new Play();
        $world = new World($job, $play);
        $method->invoke($method->getDeclaringClass()->newInstance(), $world);
        return $world->deviations;
    }
}
