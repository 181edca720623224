<?php

declare(strict_types=1);

namespace Elock\Tests\Client;

use Elock\Client;
use Elock\Tests\Support\Proxy;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Wait;
use Elock\Tests\Support\Worker;
use PHPUnit\Framework\TestCase;

/**
 * Several processes with two clients each want one lock, while connections break and the server is killed.
 */
final class StressTest extends TestCase
{
    private const PROCESSES = 4;
    private const ENTRIES = 100;

    public function testOneAtATimeWhateverBreaks(): void
    {
        $server = Server::startWithStore();
        $proxy = new Proxy($server);
        $file = "$server->directory/entries";
        touch($file);
        $racers = [];
        for ($number = 0; $number < self::PROCESSES; $number++) {
            $arguments = [$file, $proxy->address(), $number % 2 === 0 ? $server->unix() : $proxy->address()];
            $racers[] = new Worker(__DIR__ . '/scripts/racer.php', $arguments);
        }
        $proxy->tell('every 10');
        $rounds = 6 * (int)(getenv('ELOCK_ROUNDS') ?: 1);
        for ($round = 1; $round <= $rounds; $round++) {
            $entries = $round * self::ENTRIES;
            Wait::until(static fn (): bool => count(file($file) ?: []) > 2 * $entries, "$entries entries");
            if ($round % 2 === 0) {
                $server->kill();
                $server->run();
            } else {
                $proxy->tell('cut');
            }
        }
        $proxy->tell('every 0');
        foreach ($racers as $racer) {
            self::assertSame(0, $racer->finish());
        }
        self::assertOneAtATime(file($file, FILE_IGNORE_NEW_LINES) ?: []);
        self::assertNull(Client::connect($server->unix())->holder('race'));
    }

    /** @param list<string> $lines */
    private static function assertOneAtATime(array $lines): void
    {
        $last = 0;
        foreach ($lines as $number => $line) {
            [$word, $token] = explode(' ', $line);
            if ($number % 2 === 0) {
                self::assertSame('enter', $word, "line $number: two are in, or one lost it");
                self::assertGreaterThan($last, (int)$token, "line $number: a token that is not larger");
                $last = (int)$token;
            } else {
                self::assertSame("leave $last", $line, "line $number: two are in, or one lost it");
            }
        }
    }
}
