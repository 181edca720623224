<?php

declare(strict_types=1);

namespace Elock\Tests\Client;

use Elock\Tests\Support\Certificate;
use Elock\Tests\Support\Proxy;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Worker;
use PHPUnit\Framework\TestCase;

/**
 * @requires extension pcntl
 */
final class ForkTest extends TestCase
{
    public function testAForkedProcessIsAnother(): void
    {
        $server = Server::start();
        foreach ([$server->tcp(), $server->unix()] as $address) {
            self::assertForks([$address]);
        }
    }

    /**
     * The end of the child ends its parent's connection, but not its session.
     *
     * @requires extension openssl
     */
    public function testWithTls(): void
    {
        $server = Server::start();
        $certificate = new Certificate($server->directory);
        $proxy = new Proxy($server, $certificate->file);
        self::assertForks([$proxy->address(), $certificate->file]);
    }

    /** @param list<string> $arguments */
    private static function assertForks(array $arguments): void
    {
        $worker = new Worker(__DIR__ . '/scripts/fork.php', $arguments);
        self::assertSame(['ok', 'ok', null], [$worker->hear(), $worker->hear(), $worker->hear()]);
    }
}
