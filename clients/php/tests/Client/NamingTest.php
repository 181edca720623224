<?php

declare(strict_types=1);

namespace Elock\Tests\Client;

use Elock\Client;
use Elock\Naming;
use Elock\Options;
use Elock\Tests\Support\Server;
use PHPUnit\Framework\TestCase;

final class NamingTest extends TestCase
{
    private const ROUNDS = 3000;

    /** Names that are alike, and such as hurt. @return list<string> */
    private static function names(): array
    {
        $names = [
            '', '0', '%', '%-', '%#', '%20', ' ', '  ', "\n", "\r", "\r\n", "\0", "\t", "\x7F", "\x80", "\xFF", 'a b',
            'a%20b', 'a%2520b', "a\u{E9}", "a\xE9", 'HTTP/', 'HTTP/1.1', '%48TTP/1.1', 'H', 'HTTP', 'http/1.1', 'Host:',
            '*', '=k', '\\x20', '#1', '@o', 'k ', ' k', "k\r", str_repeat('x', 199), str_repeat('x', 200),
            str_repeat('x', 201), str_repeat('x', 202), str_repeat(' ', 66), str_repeat(' ', 67),
            str_repeat('x', 100) . '%#' . hash('sha256', str_repeat('x', 201)), str_repeat('x', 100000),
        ];
        $bytes = ["\0", ' ', '%', "\r", "\n", '2', '0', 'H', 'T', 'P', '/', "\x7F", "\xFF", '-', '#', 'a'];
        for ($round = 0; $round < self::ROUNDS; $round++) {
            $length = random_int(1, random_int(1, 6) === 1 ? 260 : 5);
            $name = '';
            while (strlen($name) < $length) {
                $name .= random_int(0, 1) === 0 ? $bytes[array_rand($bytes)] : random_bytes(1);
            }
            $names[] = $name;
        }
        return array_keys(array_flip(array_map(static fn (string $name): string => "=$name", $names)));
    }

    public function testTwoNamesAreNeverOneWord(): void
    {
        foreach (Naming::cases() as $naming) {
            foreach (['key', 'value', 'owner'] as $kind) {
                $names = [];
                foreach (self::names() as $marked) {
                    $name = substr($marked, 1);
                    $word = $naming->$kind($name)->bytes;
                    self::assertMatchesRegularExpression('/^[^\x00-\x20\x7F]{1,200}$/D', $word);
                    self::assertStringStartsNotWith('HTTP/', $word);
                    self::assertArrayNotHasKey("=$word", $names, "\"$name\" and another one");
                    $names["=$word"] = true;
                    self::assertSame($name, $naming->$kind($name)->name);
                }
            }
        }
    }

    public function testWordsTellTheirNames(): void
    {
        foreach (self::names() as $marked) {
            $name = substr($marked, 1);
            $word = Naming::Encoded->key($name)->bytes;
            if (!str_contains($word, '%#')) {
                self::assertSame($name, Naming::Encoded->name($word));
            }
        }
        self::assertSame('report-2026/ä', Naming::Encoded->key('report-2026/ä')->bytes);
        self::assertSame(
            str_repeat('x', 100) . '%#' . hash('sha256', str_repeat('x', 201)),
            Naming::Encoded->key(str_repeat('x', 201))->bytes,
        );
    }

    /** The server takes each of them as one word, and as that one. */
    public function testTheServerTakesAnyName(): void
    {
        $server = Server::start();
        $client = Client::connect($server->unix());
        $other = Client::connect($server->unix());
        foreach (array_slice(self::names(), 0, 600) as $marked) {
            $name = substr($marked, 1);
            $lock = $client->owner($name)->lockValue($name, $name);
            $holder = $other->holder($name);
            self::assertSame($lock->token(), $holder?->token);
            if (!str_contains((string)$holder->owner, '%#')) {
                self::assertSame($name, $holder->owner);
            }
            self::assertSame(1, $client->stats()['locks']);
            self::assertTrue($lock->release());
        }
        foreach (["a\nb", 'HTTP/1.1', '', str_repeat("\xFF ", 300)] as $name) {
            $named = Client::connect($server->unix(), new Options(name: $name));
            self::assertTrue($named->lock('k')->release());
        }
    }

    /** The public client locks `sha1(KEY)`, and a value as `sha1(VALUE)`. */
    public function testThePublicClientsKeys(): void
    {
        $server = Server::start();
        $public = stream_socket_client($server->tcp()) ?: self::fail('no connection');
        $client = Client::connect($server->tcp(), new Options(naming: Naming::Sha1));
        fwrite($public, 'lock_value ' . sha1('a key') . ' ' . sha1('reader') . " 0\n");
        self::assertSame("200 Acquired\r\n", fgets($public));
        $lock = $client->lockValue('a key', 'reader');
        fwrite($public, 'unlock ' . sha1('a key') . "\n");
        self::assertSame("200 Unlocked\r\n", fgets($public));
        $lock->promote();
        fwrite($public, 'lock ' . sha1('a key') . " 0\n");
        self::assertSame("409 Unavailable\r\n", fgets($public));
        $lock->demote('reader');
        fwrite($public, 'lock_value ' . sha1('a key') . ' ' . sha1('reader') . " 0\n");
        self::assertSame("200 Acquired\r\n", fgets($public));
    }
}
