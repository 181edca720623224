<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

final class PlainSocketsTest extends ExampleTestCase
{
    public function testOneAtATime(): void
    {
        $this->oneAtATime();
    }

    public function testIsNoticedWithoutTheLock(): void
    {
        $this->grantAll();
        $this->assertNotices($this->oneAtATime(...));
    }

    public function testALostLockIsNoticed(): void
    {
        $run = $this->start('plain_sockets', $this->file('text'));
        $this->awaitSaid($run, 'working');
        $this->server->stop();
        self::assertSame(255, $run->code());
        self::assertStringContainsString('no answer to "token report"', implode("\n", $run->said()));
        self::assertFileDoesNotExist($this->file('text'));
    }

    public function testAServerThatIsSilent(): void
    {
        $this->vary('plain_sockets', '($wait + 5.0)', '($wait + 0.2)');
        $run = $this->start('plain_sockets', $this->file('text'));
        $this->awaitSaid($run, 'working');
        $this->haltServer();
        self::assertSame(255, $run->code());
        $this->server->signal(SIGCONT);
        self::assertStringContainsString('no answer to "token report"', implode("\n", $run->said()));
        self::assertFileDoesNotExist($this->file('text'));
    }

    private function oneAtATime(): void
    {
        $first = $this->start('plain_sockets', $this->file('text'));
        $this->awaitSaid($first, 'working');
        $second = $this->start('plain_sockets', $this->file('text'));
        $this->awaitWaiting('report', $second);
        $first->tell('one');
        self::assertSame(['working', 'done'], $first->end());
        $second->tell('two');
        self::assertSame(['working', 'done'], $second->end());
        self::assertSame("two\n", file_get_contents($this->file('text')));
    }
}
