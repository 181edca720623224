<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

use Elock\Tests\Scenarios\Drivers\Drivers;
use PHPUnit\Framework\TestCase;

/**
 * Every scenario, with every framework, on elock; and on Redis, which says how the frameworks' users know it.
 */
final class ScenariosTest extends TestCase
{
    private static Ahead $ahead;

    public static function setUpBeforeClass(): void
    {
        self::$ahead = new Ahead(self::jobs());
    }

    /** @dataProvider scenarios */
    public function testScenario(int $position): void
    {
        $job = self::jobs()[$position];
        $result = self::$ahead->result($position);
        if ($result->notOffered !== null) {
            self::assertNotNull(Differences::notOffered($job), "not offered: $result->notOffered");
            self::assertSame([], $result->deviations);
            return;
        }
        self::assertNull($result->broken, (string)$result->broken);
        self::assertTrue(Differences::explain($job, $result), $result->text());
    }

    /** @return array<string, array{int}> */
    public function scenarios(): array
    {
        $scenarios = [];
        foreach (self::jobs() as $position => $job) {
            $scenarios["$job->driver: $job->scenario"] = [$position];
        }
        return $scenarios;
    }

    public function testWhatIsWrittenOfDifferencesIsOfScenarios(): void
    {
        foreach (Differences::all() as [$driver, $scenario]) {
            self::assertContains($driver, Drivers::ALL);
            self::assertArrayHasKey($scenario, Scenarios::all());
        }
    }

    /** @dataProvider drivers */
    public function testTheDriverIsInstalled(string $driver): void
    {
        $missing = Drivers::missing($driver);
        $missing === null ? $this->addToAssertionCount(1) : self::markTestSkipped("no scenarios of $driver: $missing");
    }

    /** @return array<string, array{string}> */
    public function drivers(): array
    {
        return array_combine(Drivers::ALL, array_map(static fn (string $driver): array => [$driver], Drivers::ALL));
    }

    /** @return list<Job> */
    private static function jobs(): array
    {
        static $jobs = null;
        return $jobs ??= self::makeJobs();
    }

    /** @return list<Job> */
    private static function makeJobs(): array
    {
        $jobs = [];
        foreach (Drivers::ALL as $driver) {
            foreach (Drivers::missing($driver) === null ? array_keys(Scenarios::all()) : [] as $scenario) {
                $job = new Job($scenario, $driver);
                if (Differences::notPlayed($job) === null) {
                    $jobs[] = $job;
                }
            }
        }
        return $jobs;
    }
}
