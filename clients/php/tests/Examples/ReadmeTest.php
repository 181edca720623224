<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

/**
 * The PHP in README.md: recipes are the files in `examples`, which other tests run; all other blocks are run here.
 */
final class ReadmeTest extends ExampleTestCase
{
    private const BLOCK = '/(?:^<!-- examples\/(\w+)\.php -->\n)?^```php\n(.*?)^```$/ms';
    private const SERVER = 'tcp://127.0.0.1:11400';

    public function testRecipesAreTheExamples(): void
    {
        $recipes = array_column(self::blocks(), 1, 0);
        unset($recipes['']);
        foreach ($recipes as $name => $code) {
            self::assertSame(file_get_contents(self::path($name)), $code, "examples/$name.php and README.md differ");
        }
        $files = array_map(static fn (string $file): string => basename($file, '.php'), glob(self::path('*')) ?: []);
        self::assertEqualsCanonicalizing($files, array_keys($recipes));
    }

    public function testExamplesHaveTests(): void
    {
        foreach (glob(self::path('*')) ?: [] as $file) {
            $test = str_replace('_', '', ucwords(basename($file, '.php'), '_')) . 'Test.php';
            self::assertFileExists(__DIR__ . "/$test");
        }
    }

    /** @dataProvider others */
    public function testRuns(string $code): void
    {
        preg_match_all('/^use ((?:Elock|Illuminate|Symfony)\\\\[\w\\\\]+);|^    (\S+)::class/m', $code, $used);
        foreach (array_filter([...$used[1], ...$used[2]]) as $class) {
            if (str_starts_with($class, 'Elock\\')) {
                $file = 'src/' . str_replace('\\', '/', substr($class, strlen('Elock\\'))) . '.php';
                self::assertFileExists(dirname(__DIR__, 2) . "/$file");
            } elseif (!class_exists($class)) {
                self::markTestSkipped("$class is not installed");
            }
        }
        mkdir($this->file('vendor'));
        file_put_contents($this->file('vendor/autoload.php'), sprintf('<?php require_once %s;', var_export(
            __DIR__ . '/scripts/readme_prelude.php',
            true,
        )));
        file_put_contents($this->file('block.php'), str_replace(self::SERVER, $this->server->tcp(), $code));
        file_put_contents(
            $this->file('run.php'),
            '<?php chdir(__DIR__); require "vendor/autoload.php"; '
            . 'echo is_array(require "block.php") ? "array" : "ran", "\n";',
        );
        $run = new Run($this->file('run.php'), [], ['ELOCK_SERVER' => $this->server->tcp()]);
        $isConfiguration = str_contains($code, "\nreturn [");
        self::assertSame([$isConfiguration ? 'array' : 'ran'], $run->end());
        self::assertSame(0, $run->code());
        $info = $this->client->info();
        self::assertSame($isConfiguration, $info['grants'] === '0', 'a lock was taken');
        self::assertSame('0', $info['locks']);
    }

    /** @return iterable<string, array{string}> */
    public function others(): iterable
    {
        foreach (self::blocks() as $number => [$name, $code]) {
            if ($name === '') {
                yield "block $number" => [$code];
            }
        }
    }

    protected function tearDown(): void
    {
        if (is_dir($this->file('vendor'))) {
            unlink($this->file('vendor/autoload.php'));
            rmdir($this->file('vendor'));
        }
        parent::tearDown();
    }

    /** @return list<array{string, string}> the example, or none, and the code */
    private static function blocks(): array
    {
        $readme = (string)file_get_contents(dirname(__DIR__, 2) . '/README.md');
        preg_match_all(self::BLOCK, $readme, $found, PREG_SET_ORDER);
        self::assertCount(substr_count($readme, '```php'), $found);
        return array_map(static fn (array $block): array => [$block[1], $block[2]], $found);
    }
}
