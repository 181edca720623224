<?php

declare(strict_types=1);

namespace Elock\Tests\Client;

use Elock\Client;
use Elock\Exception\RefusedException;
use Elock\Tests\Support\Server;
use PHPUnit\Framework\TestCase;

final class LockTest extends TestCase
{
    private static Server $server;

    public static function setUpBeforeClass(): void
    {
        self::$server = Server::start();
    }

    public function testOneAtATime(): void
    {
        $first = Client::connect(self::$server->tcp());
        $second = Client::connect(self::$server->unix());
        $lock = $first->lock('report');
        try {
            $second->lock('report');
            self::fail('two have it');
        } catch (RefusedException) {
            self::assertTrue($lock->isHeld());
        }
        self::assertTrue($lock->release());
        self::assertGreaterThan($lock->token(), $second->lock('report')->token());
    }
}
