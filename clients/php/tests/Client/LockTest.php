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

    /** As "no lease" it would stay for ever. */
    public function testALeaseThatIsLessThanNothing(): void
    {
        $client = Client::connect(self::$server->tcp());
        foreach ([$client, $client->owner()] as $holder) {
            $lock = $holder->lock('leased', 0.0, 60.0);
            $acts = [
                static fn () => $holder->lock('never', 0.0, -0.5),
                static fn () => $holder->lockValue('never', 'v', 0.0, -0.5),
                static fn () => $holder->lockSlot('never', 1, 0.0, NAN),
                static fn () => $lock->expire(-0.001),
            ];
            foreach ($acts as $act) {
                try {
                    $act();
                    self::fail('it never ends');
                } catch (\InvalidArgumentException) {
                }
            }
            self::assertNull($client->holder('never'));
            foreach ($client->locks('leased') as $listed) {
                self::assertArrayHasKey('lease_left_ms', $listed['holders'][0]);
            }
            self::assertTrue($lock->release());
        }
    }
}
