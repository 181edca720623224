<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

use Elock\Client;
use Elock\Tests\Support\Server;

/**
 * What README.md says of the ends of scripts.
 */
final class ScriptEndTest extends ExampleTestCase
{
    protected function setUp(): void
    {
        parent::setUp();
        // With the grace period as it is: nothing that is free by now is free because of that.
        $this->server = Server::start();
        $this->client = Client::connect($this->server->tcp());
    }

    /** @dataProvider ends */
    public function testEnds(string $how, bool $isReleased): void
    {
        $run = new Run(__DIR__ . '/scripts/script_end.php', [$how], ['ELOCK_SERVER' => $this->server->tcp()]);
        self::assertSame('locked', $run->end()[0]);
        $this->await('its disconnect', fn (): bool => $this->client->info()['connected_sessions'] === '1');
        self::assertSame($isReleased, $this->client->holder('of the connection') === null);
        self::assertSame('word', $this->client->holder('of an owner')?->owner);
    }

    /** @return array<string, array{string, bool}> */
    public function ends(): array
    {
        return [
            'the last line' => ['last line', true],
            'exit' => ['exit', true],
            'an exception' => ['exception', true],
            'out of memory' => ['memory', false],
            'out of time' => ['time', false],
            'killed' => ['kill', false],
        ];
    }
}
