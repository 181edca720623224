<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

final class ReadersAndWritersTest extends ExampleTestCase
{
    public function testNobodyReadsHalf(): void
    {
        $this->nobodyReadsHalf();
    }

    public function testIsNoticedWithoutTheReadersLock(): void
    {
        $this->grantAll();
        $this->assertNotices($this->nobodyReadsHalf(...));
    }

    public function testAWriterWaitsForReadersWhoReadTogether(): void
    {
        $this->aWriterWaits();
    }

    public function testIsNoticedWithoutTheWritersLock(): void
    {
        $this->grantAll();
        $this->assertNotices($this->aWriterWaits(...));
    }

    public function testCheckedAlone(): void
    {
        file_put_contents($this->file('text'), "old\n");
        self::assertSame(['old', 'checked'], $this->start('readers_and_writers', 'check', $this->file('text'))->end());
        self::assertSame(['old', 'checked'], $this->start('readers_and_writers', 'check', $this->file('text'))->end());
    }

    public function testCheckedBesideAReader(): void
    {
        file_put_contents($this->file('text'), "old\n");
        $reader = $this->client->lockValue('catalogue', 'readers');
        $run = $this->start('readers_and_writers', 'check', $this->file('text'));
        $this->awaitWaiting('catalogue', $run);
        self::assertTrue($reader->release());
        self::assertSame(['old', 'checked'], $run->end());
        self::assertSame(0, $run->code());
    }

    public function testALostLockIsNoticed(): void
    {
        $writer = $this->start('readers_and_writers', 'write', $this->file('text'));
        $writer->tell('half');
        $this->await('half of it', fn (): bool => @file_get_contents($this->file('text')) === "half\n");
        $this->loseLocks();
        $writer->tell('the other half');
        self::assertSame(255, $writer->code());
        self::assertStringContainsString('write it again', implode("\n", $writer->said()));
        self::assertSame("half\n", $this->text());
    }

    private function nobodyReadsHalf(): void
    {
        $writer = $this->start('readers_and_writers', 'write', $this->file('text'));
        $writer->tell('half');
        $this->await('half of it', fn (): bool => @file_get_contents($this->file('text')) === "half\n");
        $reader = $this->start('readers_and_writers', 'read', $this->file('text'));
        $this->awaitWaiting('catalogue', $reader);
        $writer->tell('the other half');
        self::assertSame(0, $writer->code());
        self::assertSame(['half', 'the other half'], $reader->end());
    }

    private function aWriterWaits(): void
    {
        file_put_contents($this->file('text'), "old\n");
        $reader = $this->client->lockValue('catalogue', 'readers');
        self::assertSame(['old'], $this->start('readers_and_writers', 'read', $this->file('text'))->end());
        $writer = $this->start('readers_and_writers', 'write', $this->file('text'));
        $writer->tell('new');
        $this->await(
            'a writer that waits',
            fn (): bool => $this->waiting('catalogue') === 1 || $this->text() === "new\n",
        );
        self::assertSame("old\n", $this->text());
        self::assertTrue($reader->release());
        self::assertSame(0, $writer->code());
        self::assertSame("new\n", $this->text());
    }

    private function text(): string
    {
        return (string)file_get_contents($this->file('text'));
    }
}
