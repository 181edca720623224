<?php

declare(strict_types=1);

namespace Elock\Tests\Client;

use Elock\Client;
use Elock\Exception\TimeoutException;
use Elock\Options;
use Elock\Tests\Support\Server;
use PHPUnit\Framework\TestCase;

/**
 * A server that stands still.
 */
final class DeadlineTest extends TestCase
{
    private Server $server;
    private Client $client;

    protected function setUp(): void
    {
        $this->server = Server::start();
        $this->client = Client::connect($this->server->tcp(), new Options(timeout: 0.2));
    }

    protected function tearDown(): void
    {
        $this->server->goOn();
    }

    public function testALateAnswerIsNobodys(): void
    {
        $first = $this->client->lock('first');
        $owner = $this->client->owner('job');
        $acts = [
            fn () => $this->client->lock('late'),
            fn () => $this->client->lock('late', 0.1),
            fn () => $this->client->lockValue('late', 'v'),
            fn () => $this->client->lockAll(['late', 'later']),
            fn () => $owner->lock('owned', 0.1, 60.0),
            fn () => $first->isHeld(),
            fn () => $this->client->info(),
        ];
        foreach ($acts as $number => $act) {
            $this->server->pause();
            try {
                $act();
                self::fail("$number: it stands still");
            } catch (TimeoutException $late) {
                self::assertStringContainsString('in time', $late->getMessage());
            }
            $this->server->goOn();
            $next = $this->client->lock('next');
            self::assertSame($next->token(), $this->client->holder('next')?->token);
            self::assertTrue($next->release());
            self::assertTrue($first->isHeld(), 'it goes on with the session');
            self::assertNull($this->client->holder('late'), 'what was given up is not kept');
            self::assertNull($this->client->holder('later'));
        }
        self::assertTrue($first->release());
    }

    /** What is not known, an application can ask for again. */
    public function testAReleaseThatWasNotAnswered(): void
    {
        $lock = $this->client->lock('k');
        $this->server->pause();
        try {
            $lock->release();
            self::fail('it stands still');
        } catch (TimeoutException) {
        }
        $this->server->goOn();
        $lock->release();
        self::assertNull($this->client->holder('k'));
        self::assertTrue($this->client->lock('k')->release());
    }

    public function testConnecting(): void
    {
        $this->server->pause();
        foreach ([$this->server->tcp(), $this->server->unix()] as $address) {
            try {
                Client::connect($address, new Options(timeout: 0.2, connectTimeout: 0.2));
                self::fail('it stands still');
            } catch (TimeoutException) {
                $this->addToAssertionCount(1);
            }
        }
    }
}
