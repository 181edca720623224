<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Illuminate\Foundation\Application;

/**
 * Tests in an application, with a directory of its own.
 */
abstract class ApplicationTestCase extends LaravelTestCase
{
    protected string $base;

    public static function setUpBeforeClass(): void
    {
        parent::setUpBeforeClass();
        if (!class_exists(Application::class)) {
            self::markTestSkipped('Laravel is not installed as a whole');
        }
    }

    protected function setUp(): void
    {
        parent::setUp();
        $this->base = self::$server->directory . '/app';
        foreach (['bootstrap/cache', 'cache', 'sessions'] as $directory) {
            mkdir("$this->base/$directory", recursive: true);
        }
    }

    protected function tearDown(): void
    {
        $files = new \RecursiveIteratorIterator(
            new \RecursiveDirectoryIterator($this->base, \FilesystemIterator::SKIP_DOTS),
            \RecursiveIteratorIterator::CHILD_FIRST,
        );
        foreach ($files as $file) {
            $file->isDir() ? rmdir((string)$file) : unlink((string)$file);
        }
        rmdir($this->base);
    }

    /**
     * @param array<string, mixed> $more
     * @return array<string, mixed>
     */
    protected function settings(array $more = []): array
    {
        return $more + ['base' => $this->base, 'elock.servers' => self::$server->tcp()];
    }

    /** @param array<string, mixed> $more */
    protected function app(array $more = []): Application
    {
        return App::of($this->settings($more));
    }
}
