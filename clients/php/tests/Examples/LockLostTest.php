<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

final class LockLostTest extends ExampleTestCase
{
    public function testItStopsAndUndoes(): void
    {
        $this->itStopsAndUndoes();
    }

    public function testIsNoticedWithoutTheHeartbeat(): void
    {
        $this->vary('lock_lost', '        $lock->expire(LEASE);                               // LostException', '//');
        $this->vary('lock_lost', '    $lock->expire(LEASE);                                   // Once', '//');
        $this->assertNotices($this->itStopsAndUndoes(...));
    }

    public function testItIsKeptByItsHeartbeat(): void
    {
        $this->itIsKeptByItsHeartbeat();
    }

    public function testAnEndedLeaseIsNoticedWithoutTheHeartbeat(): void
    {
        $this->vary('lock_lost', '        $lock->expire(LEASE);                               // LostException', '//');
        $this->assertNotices($this->itIsKeptByItsHeartbeat(...));
    }

    public function testAServerThatIsGoneCountsAsLost(): void
    {
        $run = $this->exporting();
        $this->server->kill();
        $run->tell('two');
        self::assertSame(1, $run->code());
        self::assertStringContainsString('stopped, and undone: no server', $run->said()[0]);
        self::assertSame([], glob($this->file('export*')));
    }

    private function itStopsAndUndoes(): void
    {
        $run = $this->exporting();
        $holder = $this->client->holder('export');
        self::assertNotNull($holder);
        // The end of its lease, before the next step has come.
        $this->client->owner($holder->owner)->held('export')->expire(0.001);
        $this->client->nextHolder('export', $holder, 30);
        $run->tell('two');
        self::assertSame(1, $run->code());
        self::assertStringContainsString('stopped, and undone: "export"', $run->said()[0]);
        self::assertSame([], glob($this->file('export*')));
    }

    private function itIsKeptByItsHeartbeat(): void
    {
        $run = $this->exporting();
        $holder = $this->client->holder('export');
        self::assertNotNull($holder);
        $this->client->owner($holder->owner)->held('export')->expire(600);
        $run->tell('two');
        $draft = $this->file("export.$holder->token");
        $this->await('a step', static fn (): bool => file_get_contents($draft) === "one\ntwo\n");
        $run->tell('three');
        $this->await('a step', static fn (): bool => file_get_contents($draft) === "one\ntwo\nthree\n");
        // Each step gives it its own lease again; the last one may be at that.
        self::assertLessThanOrEqual(30_000, $this->leaseLeft());
        self::assertSame(['exported'], $run->end());
        self::assertSame("one\ntwo\nthree\n", file_get_contents($this->file('export')));
        self::assertNull($this->client->holder('export'));
    }

    private function exporting(): Run
    {
        $run = $this->start('lock_lost', $this->file('export'));
        $run->tell('one');
        $this->await('a step', fn (): bool => glob($this->file('export.[0-9]*')) !== []);
        return $run;
    }

    private function leaseLeft(): ?int
    {
        foreach ($this->client->locks('export') as $lock) {
            return $lock['holders'][0]['lease_left_ms'];
        }
        return null;
    }
}
