<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

final class MigrateFromRedisTest extends ExampleTestCase
{
    /** @var resource */
    private $process;
    private \Redis $redis;

    protected function setUp(): void
    {
        $program = trim((string)shell_exec('command -v redis-server'));
        if ($program === '' || !extension_loaded('redis')) {
            self::markTestSkipped('redis-server and the extension "redis" are not both installed');
        }
        parent::setUp();
        $socket = $this->file('redis');
        $command = [$program, '--port', '0', '--unixsocket', $socket, '--save', '', '--dir', $this->directory];
        $none = ['file', '/dev/null', 'w'];
        $this->process = proc_open($command, [['file', '/dev/null', 'r'], $none, $none], $pipes);
        $this->redis = new \Redis();
        $this->await('redis-server', function () use ($socket): bool {
            try {
                return @$this->redis->connect($socket);
            } catch (\RedisException) {
                return false;
            }
        });
    }

    protected function tearDown(): void
    {
        if (isset($this->process)) {
            proc_terminate($this->process, SIGKILL);
            proc_close($this->process);
            parent::tearDown();
        }
    }

    protected function environment(): array
    {
        return ['REDIS_SERVER' => $this->file('redis')];
    }

    public function testBothAreTakenAndGivenBack(): void
    {
        $this->waitsForTheNew();
        self::assertSame(0, $this->redis->exists('lock:report'));
        self::assertNull($this->client->holder('report'));
    }

    public function testIsNoticedWithoutElock(): void
    {
        $this->grantAll();
        $this->assertNotices($this->waitsForTheNew(...));
    }

    public function testWaitsForThoseWhoHaveRedissAlone(): void
    {
        $this->waitsForTheOld();
    }

    public function testIsNoticedWithoutRedis(): void
    {
        $this->vary('migrate_from_redis', "!\$redis->set('lock:report', \$word, ['nx', 'ex' => LEASE])", 'false');
        $this->assertNotices($this->waitsForTheOld(...));
    }

    public function testALostOneIsNoticed(): void
    {
        foreach (['Redis' => 'the lock in Redis is lost', 'elock' => '403'] as $lost => $message) {
            $run = $this->start('migrate_from_redis', $this->file('text'));
            $this->awaitSaid($run, 'working');
            $lost === 'elock' ? $this->client->break('report') : $this->redis->set('lock:report', 'of another');
            self::assertSame(255, $run->code());
            self::assertStringContainsString($message, implode("\n", $run->said()));
            self::assertFileDoesNotExist($this->file('text'));
            // What is another's is not released.
            self::assertSame($lost === 'elock' ? 0 : 1, $this->redis->del('lock:report'));
            self::assertNull($this->client->holder('report'));
        }
    }

    /** One that has been changed over already takes elock's alone. */
    private function waitsForTheNew(): void
    {
        $new = $this->client->lock('report');
        $run = $this->start('migrate_from_redis', $this->file('text'));
        $this->awaitWaiting('report', $run);
        self::assertTrue($new->release());
        $this->awaitSaid($run, 'working');
        self::assertSame(1, $this->redis->exists('lock:report'));
        $run->tell('new');
        self::assertSame(['working', 'done'], $run->end());
        self::assertSame("new\n", file_get_contents($this->file('text')));
    }

    private function waitsForTheOld(): void
    {
        $this->redis->set('lock:report', 'of an old one');
        $run = $this->start('migrate_from_redis', $this->file('text'));
        // The one above is a `SET`, too.
        $isTried = fn (): bool => str_starts_with($this->redis->info('commandstats')['cmdstat_set'], 'calls=3,');
        $this->await('two tries', static fn (): bool => $isTried() || $run->said() !== []);
        self::assertSame([], $run->said());
        $this->redis->del('lock:report');
        self::assertSame(['working', 'done'], $run->end());
    }
}
