<?php

declare(strict_types=1);

namespace Elock\Tests\Client;

use Elock\Address;
use Elock\Client;
use Elock\Credentials;
use Elock\Exception\AccessException;
use Elock\Exception\ConnectionException;
use Elock\Exception\ElockException;
use Elock\Naming;
use Elock\Options;
use Elock\Request;
use Elock\Symfony\Dsn;
use Elock\Tests\Support\Certificate;
use Elock\Tests\Support\Server;
use PHPUnit\Framework\TestCase;

/**
 * Against a server that speaks TLS itself, and asks who comes.
 *
 * @requires extension openssl
 */
final class AccessTest extends TestCase
{
    private static Certificate $certificate;
    private static Server $server;

    public static function setUpBeforeClass(): void
    {
        $directory = sys_get_temp_dir() . '/elock-php-' . bin2hex(random_bytes(6));
        mkdir($directory);
        self::$certificate = new Certificate($directory);
        file_put_contents("$directory/password", "hush!\n");
        self::$server = self::start('--password-file', "$directory/password");
    }

    public static function tearDownAfterClass(): void
    {
        $directory = dirname(self::$certificate->file);
        array_map(unlink(...), glob("$directory/*") ?: []);
        rmdir($directory);
    }

    private static function start(string ...$flags): Server
    {
        $file = self::$certificate->file;
        return Server::start('--tls-listen', '127.0.0.1:0', '--tls-cert', $file, '--tls-key', $file, ...$flags);
    }

    /** @param array<string, mixed> $settings */
    private static function options(array $settings = []): Options
    {
        $tls = ['peer_name' => Certificate::NAME];
        return Options::fromArray($settings + ['ca' => self::$certificate->file, 'tls' => $tls]);
    }

    public function testLocksAndWaitsByTls(): void
    {
        $client = Client::connect(self::$server->tls(), self::options(['password' => 'hush!']));
        $other = Client::connect(self::$server->unix(), new Options(password: 'hush!'));
        $held = $other->owner('o')->lock('k', 0.0, 2.0);
        $begin = hrtime(true);
        self::assertTrue($client->lock('k', 10.0)->isHeld(), 'it waits for seconds, until the lease is over');
        self::assertGreaterThan(1.5, (hrtime(true) - $begin) / 1e9);
        self::assertFalse($held->release());
    }

    /** Answers of many records of TLS, and requests that the socket does not take at once. */
    public function testMuchAtOnce(): void
    {
        $client = Client::connect(self::$server->tls(), self::options(['password' => 'hush!', 'timeout' => 20.0]));
        $word = str_repeat('x', 4000);
        $requests = array_map(static fn (int $n): Request => Request::echo("$n", $word), range(1, 1500));
        foreach ($client->send(...$requests) as $position => $answer) {
            self::assertSame(sprintf('["%d","%s"]', $position + 1, $word), $answer->text);
        }
        $requests = array_map(
            static fn (int $n): Request => Request::lock(Naming::Encoded->key(str_repeat('y', 150) . $n)),
            range(1, 500),
        );
        $client->send(...$requests);
        self::assertCount(500, iterator_to_array($client->locks('yyy'), false));
        $client->unlockAll();
    }

    public function testASessionIsResumedAsTheSameUser(): void
    {
        $client = Client::connect('tls://:hush%21@' . substr(self::$server->tls(), 6), self::options());
        $lock = $client->lock('resumed');
        $id = $client->sessionId();
        $other = new Client(self::$server->tls(), self::options(['password' => 'hush!']));
        $other->resume($id);
        self::assertSame($lock->token(), $other->held('resumed')->token());
        $other->unlockAll();
    }

    public function testWhoIsNotLetIn(): void
    {
        $at = substr(self::$server->tcp(), 6);
        foreach (["tcp://:guess@$at", "tcp://web:hush%21@$at", "tcp://$at"] as $address) {
            foreach (['lock', 'holder', 'token'] as $asks) {
                $client = new Client($address);
                try {
                    $asks === 'token' ? $client->owner('o')->lock('k', 5.0, 1.0) : $client->$asks('k');
                    self::fail('it is let in');
                } catch (AccessException $refused) {
                    self::assertSame(401, $refused->getCode());
                    self::assertStringNotContainsString('hush', (string)$refused);
                    self::assertStringNotContainsString('guess', (string)$refused);
                }
            }
        }
        $this->expectException(ConnectionException::class);
        Client::connect(self::$server->tls(), new Options(password: 'hush!'));
    }

    public function testACertificateOfItsOwn(): void
    {
        $file = self::$certificate->file;
        // It is signed by itself, so it is its own authority.
        $server = self::start('--tls-client-ca', $file);
        $client = Client::connect($server->tls(), self::options(['cert' => $file, 'key' => $file]));
        self::assertTrue($client->lock('k')->release());
        $this->expectException(ConnectionException::class);
        $this->expectExceptionMessageMatches('/certificate required/i');
        (new Client($server->tls(), self::options()))->lock('k');
    }

    public function testAClientThatSpeaksNoTlsIsTold(): void
    {
        try {
            Client::connect('tcp://' . substr(self::$server->tls(), 6));
            self::fail('it speaks TLS');
        } catch (ElockException $refused) {
            self::assertStringContainsString('this port speaks TLS only: name it elocks://', $refused->getMessage());
        }
    }

    public function testAddressesWithUsers(): void
    {
        $address = Address::parse('elocks://we%62:p%40ss@db1');
        self::assertSame('tls://db1:11400', (string)$address);
        self::assertEquals(new Credentials('web', 'p@ss'), $address->credentials);
        self::assertEquals(new Credentials(null, 'p'), Address::parse('elock://:p@h:1')->credentials);
        foreach (['elock://u@h', 'elock://u:@h', 'elock://u:p%20q@h', 'elock://u:hush@h:x', 'u:hush@h'] as $bad) {
            try {
                Address::parse($bad);
                self::fail($bad);
            } catch (\InvalidArgumentException $refused) {
                self::assertStringNotContainsString('hush', (string)$refused);
            }
        }
        $this->expectException(\InvalidArgumentException::class);
        new Options(user: 'web');
    }

    public function testNoDumpShowsAPassword(): void
    {
        $client = new Client('elock://web:hush@h', new Options(user: 'web', password: 'hush'));
        self::assertStringNotContainsString('hush', print_r($client, true));
        self::assertStringNotContainsString('hush', print_r(new Options(user: 'web', password: 'hush'), true));
        ob_start();
        var_dump(Dsn::parse('elock://web:hush@h'));
        self::assertStringNotContainsString('hush', (string)ob_get_clean());
    }

    public function testTheStoresOfOneUserHaveOneClient(): void
    {
        $client = static fn (string $dsn): Client => Dsn::parse($dsn)->client();
        $one = $client('elock://web:a@h');
        self::assertSame($one, $client('elock://web:a@h'));
        self::assertNotSame($one, $client('elock://web:b@h'));
        self::assertNotSame($one, $client('elock://shop:a@h'));
    }
}
