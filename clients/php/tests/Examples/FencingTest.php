<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

/** @requires extension pdo_sqlite */
final class FencingTest extends ExampleTestCase
{
    public function testALateOneIsRefused(): void
    {
        $this->aLateOneIsRefused();
    }

    public function testIsNoticedWithoutTheToken(): void
    {
        $this->vary('fencing', 'WHERE last_token <= excluded.last_token', '');
        $this->assertNotices($this->aLateOneIsRefused(...));
    }

    public function testTheNextImportWritesOverTheLast(): void
    {
        foreach (['one', 'two'] as $text) {
            $run = $this->start('fencing', $this->file('database'));
            $run->tell($text);
            self::assertSame(['importing', 'imported'], $run->end());
            self::assertSame("$text\n", $this->prices());
        }
    }

    public function testTwoAtATimeWait(): void
    {
        $first = $this->start('fencing', $this->file('database'));
        $this->awaitSaid($first, 'importing');
        $second = $this->start('fencing', $this->file('database'));
        $this->awaitWaiting('import', $second);
        self::assertSame(['importing', 'imported'], $first->end());
        self::assertSame(['importing', 'imported'], $second->end());
    }

    private function aLateOneIsRefused(): void
    {
        $late = $this->start('fencing', $this->file('database'));
        $this->awaitSaid($late, 'importing');
        // As the end of its lease would.
        self::assertTrue($this->client->break('import'));
        $next = $this->start('fencing', $this->file('database'));
        $next->tell('new');
        self::assertSame(['importing', 'imported'], $next->end());
        $late->tell('old');
        self::assertSame(1, $late->code());
        self::assertSame('too late: another import has had the lock since; nothing is written', $late->said()[1]);
        self::assertSame("new\n", $this->prices());
    }

    private function prices(): string
    {
        $database = new \PDO("sqlite:{$this->file('database')}");
        return (string)$database->query("SELECT body FROM imports WHERE name = 'prices'")->fetchColumn();
    }
}
