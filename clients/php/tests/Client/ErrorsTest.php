<?php

declare(strict_types=1);

namespace Elock\Tests\Client;

use Elock\Client;
use Elock\Exception\ConnectionException;
use Elock\Exception\DeadlockException;
use Elock\Exception\ElockException;
use Elock\Exception\InvalidRequestException;
use Elock\Exception\LostException;
use Elock\Exception\NoLeaderException;
use Elock\Exception\ServerException;
use Elock\Exception\ServerFullException;
use Elock\Exception\TimeoutException;
use Elock\Exception\UnsupportedException;
use Elock\Naming;
use Elock\Options;
use Elock\Request;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Wait;
use Elock\Tests\Support\Worker;
use PHPUnit\Framework\TestCase;

final class ErrorsTest extends TestCase
{
    /** @return iterable<string, array{Naming, string, string}> */
    public static function namings(): iterable
    {
        yield 'ordinary' => [Naming::Encoded, 'x', 'y'];
        yield 'odd' => [Naming::Encoded, 'an x #7 => q =', 'a %y #8 => r ='];
        yield 'long' => [Naming::Encoded, str_repeat('x ', 80), str_repeat('y', 300)];
        yield 'sha1' => [Naming::Sha1, 'x', 'y'];
    }

    /** @dataProvider namings */
    public function testADeadlockNamesItsCircle(Naming $naming, string $x, string $y): void
    {
        $server = Server::start();
        $options = new Options(naming: $naming);
        $client = Client::connect($server->tcp(), $options);
        $observer = Client::connect($server->unix());
        $held = $client->lock($x);
        $raw = stream_socket_client($server->tcp()) ?: self::fail('no connection');
        [$xWord, $yWord] = [$naming->key($x)->bytes, $naming->key($y)->bytes];
        fwrite($raw, "lock $yWord\n");
        self::assertSame("200 Acquired\r\n", fgets($raw));
        fwrite($raw, "lock $xWord 60\n");
        Wait::forWaiters($observer, $xWord);
        try {
            $client->lock($y, 60.0);
            self::fail('it would wait for ever');
        } catch (DeadlockException $deadlock) {
            self::assertSame(423, $deadlock->getCode());
            self::assertStringStartsWith("waiting for \"$y\" would be a deadlock (423 ", $deadlock->getMessage());
            $circle = $deadlock->circle($naming);
            self::assertSame([$y, $x], array_column($circle, 'key'));
            self::assertSame([1, 3], array_column($circle, 'session'));
        }
        self::assertTrue($held->isHeld(), 'nothing was taken away');
    }

    public function testBoundsOfTheServer(): void
    {
        $server = Server::start('--max-session-locks', '2', '--max-connections', '3');
        $client = Client::connect($server->tcp());
        $client->lockAll(['a', 'b']);
        self::assertThrows(
            ServerFullException::class,
            '"c": 507 Too many locks in this session: at most 2',
            static fn () => $client->lock('c', 5.0),
        );
        $others = [Client::connect($server->tcp()), Client::connect($server->tcp())];
        self::assertThrows(
            ServerFullException::class,
            '503 Too many connections: at most 3',
            static fn () => Client::connect($server->tcp()),
        );
        self::assertThrows(
            ServerFullException::class,
            '503 Too many connections: at most 3',
            static fn () => (new Client($server->tcp()))->owner()->lock('d', 5.0),
        );
        self::assertThrows(
            InvalidRequestException::class,
            '413 Line too long: at most 4096 bytes',
            static fn () => $client->send(Request::echo(str_repeat('x', 5000)))[0]->orThrow(),
        );
        self::assertSame(2, $others[0]->stats()['locks']);
    }

    /** Some of them may be cut off from the others. */
    public function testAServerThatKnowsNoLeaderIsPassedOver(): void
    {
        $server = Server::start();
        $script = __DIR__ . '/../Symfony/fake_server.php';
        $fakes = [new Worker($script, ['503 No leader']), new Worker($script, ['503 No leader'])];
        $addresses = array_map(static fn (Worker $fake): string => 'tcp://127.0.0.1:' . $fake->hear(), $fakes);
        $client = new Client([...$addresses, $server->tcp()]);
        self::assertTrue($client->lock('k')->isHeld());
        self::assertSame(1, $client->stats()['locks']);
        foreach ([$addresses, [$addresses[0]]] as $without) {
            self::assertThrows(
                NoLeaderException::class,
                '503 No leader',
                static fn () => (new Client($without))->lock('k'),
            );
        }
        self::assertThrows(
            ServerException::class,
            '409 Alone: there is no other server',
            static fn () => $client->failover(),
        );
        self::assertTrue($client->lock('l')->isHeld());
    }

    public function testThereIsNoServer(): void
    {
        $server = Server::start();
        [$tcp, $unix] = [$server->tcp(), $server->unix()];
        $server->kill();
        foreach ([$tcp, $unix, 'tls://' . substr($tcp, 6), [$tcp, $unix]] as $address) {
            self::assertThrows(ConnectionException::class, 'no server at ', static fn () => Client::connect($address));
            $client = new Client($address);
            self::assertThrows(ConnectionException::class, 'no server at ', static fn () => $client->lock('k'));
            self::assertThrows(ConnectionException::class, 'no server at ', static fn () => $client->lock('k', 0.05));
        }
        $server->run();
        self::assertTrue(Client::connect(['tcp://127.0.0.1:1', $tcp])->lock('k')->release());
        self::assertTrue(Client::connect(['unix:///nowhere', $unix])->lock('k')->release());
    }

    public function testAPortForTlsSaysHowItIsNamed(): void
    {
        $stranger = new Worker(__DIR__ . '/scripts/strange.php', ['tls']);
        $port = $stranger->hear();
        foreach (["tcp://127.0.0.1:$port", "tcp://:secret@127.0.0.1:$port"] as $address) {
            $lock = static fn () => (new Client($address))->lock('k');
            self::assertThrows(UnsupportedException::class, 'this port speaks TLS only: name it elocks://', $lock);
        }
    }

    /** @return iterable<string, array{string, class-string<ElockException>}> */
    public static function strangers(): iterable
    {
        $notElock = ConnectionException::class;
        yield 'http' => ['http', $notElock];
        yield 'silent' => ['silent', TimeoutException::class];
        yield 'garbage' => ['garbage', $notElock];
        yield 'empty lines' => ['empty', $notElock];
        yield 'endless line' => ['endless line', $notElock];
        yield 'closes' => ['closes', $notElock];
        yield 'mail' => ['greets', UnsupportedException::class];
        yield 'an old Erlang one' => ['erlang', UnsupportedException::class];
        yield 'an old NodeJS one' => ['nodejs', UnsupportedException::class];
        yield 'says more than it is asked' => ['grants more', $notElock];
    }

    /**
     * @dataProvider strangers
     * @param class-string<ElockException> $expected
     */
    public function testWhatIsNoElockd(string $kind, string $expected): void
    {
        $stranger = new Worker(__DIR__ . '/scripts/strange.php', [$kind]);
        $address = 'tcp://127.0.0.1:' . $stranger->hear();
        $acts = [
            static fn (Client $client) => $client->lock('k'),
            static fn (Client $client) => $client->lock('k', 0.05),
            static fn (Client $client) => $client->owner('o')->lock('k', 0.0, 60.0),
            static fn (Client $client) => $client->owner('o')->lock('k', 0.05, 60.0),
            static fn (Client $client) => $client->owner('o')->held('k'),
            static fn (Client $client) => $client->lockAll(['k', 'l']),
        ];
        foreach ($acts as $act) {
            $client = new Client($address, new Options(timeout: 0.2));
            foreach (['first', 'again'] as $time) {
                try {
                    $act($client);
                    self::fail("$time: held, it says");
                } catch (ElockException $problem) {
                    self::assertInstanceOf($expected, $problem, "$time: {$problem->getMessage()}");
                }
            }
        }
    }

    /** One of several has ended before its token was told: the others are not kept. */
    public function testAGrantThatIsOverBeforeItIsTold(): void
    {
        $stranger = new Worker(__DIR__ . '/scripts/strange.php', ['over at once']);
        $client = new Client('tcp://127.0.0.1:' . $stranger->hear());
        self::assertThrows(
            LostException::class,
            'the lease of "a" has ended (403 expired)',
            static fn () => $client->lockAll(['a', 'b']),
        );
        $heard = [];
        while (!str_starts_with($heard[] = (string)$stranger->hear(), 'unlock b')) {
        }
        self::assertContains('unlock a', $heard);
    }

    /** As whole numbers they would be 0: no grace at all. */
    public function testAGraceThatIsNone(): void
    {
        $client = new Client();
        foreach ([INF, NAN, -1.0] as $grace) {
            foreach ([static fn () => new Options(grace: $grace), static fn () => $client->setGrace($grace)] as $act) {
                try {
                    $act();
                    self::fail("$grace");
                } catch (\InvalidArgumentException $problem) {
                    self::assertStringContainsString('the grace period is', $problem->getMessage());
                }
            }
        }
    }

    /** `tls=1` in a DSN would be a connection without TLS, and not a word of it. */
    public function testSettingsThatAreNone(): void
    {
        foreach ([['tls' => '1'], ['name' => ['web']], ['grace' => 'long'], ['keys' => 'md5'], ['ttl' => 1]] as $none) {
            try {
                Options::fromArray($none);
                self::fail((string)json_encode($none));
            } catch (\InvalidArgumentException $problem) {
                self::assertStringContainsString((string)key($none), $problem->getMessage());
            }
        }
    }

    /** What is not understood is not "nobody". */
    public function testAHolderThatIsNone(): void
    {
        $stranger = new Worker(__DIR__ . '/scripts/strange.php', ['over at once']);
        $client = new Client('tcp://127.0.0.1:' . $stranger->hear());
        self::assertThrows(ServerException::class, 'no holder ', static fn () => $client->holder('k'));
    }

    /** Nor does a list without an end take all memory. */
    public function testAListWithoutAnEnd(): void
    {
        $stranger = new Worker(__DIR__ . '/scripts/strange.php', ['endless list']);
        $client = new Client('tcp://127.0.0.1:' . $stranger->hear(), new Options(timeout: 0.2));
        self::assertThrows(TimeoutException::class, 'no answer from ', static fn () => $client->info());
    }

    public function testWhatCannotBeStored(): void
    {
        $server = Server::startWithStore();
        $client = Client::connect($server->tcp());
        $lock = $client->owner('o')->lock('k', 0.0, 60.0);
        self::assertTrue($lock->isHeld());
        self::assertSame('disk', $client->info()['store']);
        self::assertThrows(ServerException::class, '"k": 500 Not stored: x', static function (): void {
            $request = Request::lock(Naming::Encoded->key('k'));
            (new \Elock\Answer(500, 'Not stored: x', [], $request))->orThrow();
        });
    }

    /**
     * @param class-string<\Throwable> $class
     * @param callable(): mixed $act
     */
    private static function assertThrows(string $class, string $message, callable $act): void
    {
        try {
            $act();
        } catch (ElockException $problem) {
            self::assertInstanceOf($class, $problem);
            self::assertStringStartsWith($message, $problem->getMessage());
            return;
        }
        self::fail("no $class");
    }
}
