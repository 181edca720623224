<?php

declare(strict_types=1);

namespace Elock\Tests\Client;

use Elock\Client;
use Elock\Exception\ConnectionException;
use Elock\Naming;
use Elock\Options;
use Elock\Request;
use Elock\Tests\Support\Certificate;
use Elock\Tests\Support\Proxy;
use Elock\Tests\Support\Server;
use Elock\Tests\Support\Wait;
use PHPUnit\Framework\TestCase;

/**
 * @requires extension openssl
 */
final class TlsTest extends TestCase
{
    private static Server $server;
    private static Certificate $certificate;
    private Proxy $proxy;

    public static function setUpBeforeClass(): void
    {
        self::$server = Server::start();
        self::$certificate = new Certificate(self::$server->directory);
    }

    protected function setUp(): void
    {
        $this->proxy = new Proxy(self::$server, self::$certificate->file);
    }

    private function client(float $timeout = 5.0): Client
    {
        $tls = ['cafile' => self::$certificate->file, 'peer_name' => Certificate::NAME];
        return Client::connect($this->proxy->address(), new Options(timeout: $timeout, tls: $tls));
    }

    public function testLocks(): void
    {
        $client = $this->client();
        $other = $this->client();
        $lock = $client->lock('k');
        self::assertNotNull($other->holder('k'));
        self::assertTrue($lock->release());
        $lock = $other->lock('k', 5.0);
        unset($client);
        self::assertTrue($lock->isHeld());
    }

    /**
     * Behind a goodbye, nothing is done, and the answer to that is no other request's.
     *
     * @requires extension pcntl
     */
    public function testAHandlerThatReleasesWhileTheClientIsClosed(): void
    {
        $client = $this->client();
        $lock = $client->owner('o')->lock('k', 0.0, 60.0);
        $isReleased = null;
        pcntl_signal(SIGUSR1, static function () use ($lock, &$isReleased): void {
            self::$server->goOn();
            $isReleased = $lock->release();
        });
        // So that there is a wait, in which it runs.
        self::$server->pause();
        posix_kill((int)getmypid(), SIGUSR1);
        $client->close();
        pcntl_signal(SIGUSR1, SIG_DFL);
        self::assertTrue($isReleased);
        self::assertNull(Client::connect(self::$server->tcp())->holder('k'));
    }

    /** Answers of many records of TLS, and requests that the socket does not take at once. */
    public function testMuchAtOnce(): void
    {
        $client = $this->client(20.0);
        $word = str_repeat('x', 4000);
        for ($round = 0; $round < 3; $round++) {
            $requests = array_map(static fn (int $n): Request => Request::echo("$n", $word), range(1, 1500));
            foreach ($client->send(...$requests) as $position => $answer) {
                self::assertSame(sprintf('["%d","%s"]', $position + 1, $word), $answer->text);
            }
        }
        $requests = array_map(
            static fn (int $n): Request => Request::lock(Naming::Encoded->key(str_repeat('y', 150) . $n)),
            range(1, 2500),
        );
        $client->send(...$requests);
        self::assertCount(2500, iterator_to_array($client->locks('yyy'), false));
        self::assertCount(2500, preg_grep('/^LOCK yyy/', $client->debug()) ?: []);
        $client->unlockAll();
    }

    public function testACertificateThatIsNotTrusted(): void
    {
        foreach ([[], ['cafile' => self::$certificate->file, 'peer_name' => 'another.test']] as $tls) {
            try {
                Client::connect($this->proxy->address(), new Options(tls: $tls));
                self::fail('it is trusted');
            } catch (ConnectionException $refused) {
                self::assertStringContainsStringIgnoringCase('certificate', $refused->getMessage());
            }
        }
        // And a server that does not speak TLS.
        $this->expectException(ConnectionException::class);
        Client::connect('tls://' . substr(self::$server->tcp(), 6), new Options(connectTimeout: 1.0));
    }

    public function testABrokenConnection(): void
    {
        $client = $this->client();
        $lock = $client->lock('broken');
        $this->proxy->tell('cut');
        self::assertTrue($lock->isHeld());
        self::assertSame($lock->token(), $client->held('broken')->token());
        self::assertTrue($lock->release());
    }

    /** TLS says things of its own, which are no end. */
    public function testAConnectionThatRests(): void
    {
        $client = $this->client();
        $number = fn (): array => array_column(iterator_to_array($client->sessions(), false), 'session');
        $before = $number();
        usleep(1_100_000);
        self::assertSame($before, $number());
    }

    /** @requires extension pcntl */
    public function testAWaiterThatIsInterrupted(): void
    {
        $client = $this->client();
        $observer = Client::connect(self::$server->unix());
        $held = $observer->lock('interrupted');
        pcntl_signal(SIGALRM, static fn () => throw new \DomainException('enough'));
        try {
            foreach ([$client, $client->owner()] as $holder) {
                try {
                    pcntl_alarm(1);
                    $holder->lock('interrupted', 30.0, 60.0);
                    self::fail('it is held');
                } catch (\DomainException) {
                }
                Wait::forWaiters($observer, 'interrupted', 0);
            }
        } finally {
            pcntl_signal(SIGALRM, SIG_DFL);
        }
        self::assertTrue($held->release());
        self::assertTrue($client->lock('interrupted')->release());
    }
}
