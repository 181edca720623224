<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

final class OnceAcrossServersTest extends ExampleTestCase
{
    public function testOneOfTenDoesIt(): void
    {
        $this->oneOfTenDoesIt();
        $file = $this->file('report');
        self::assertSame(['it is done already'], $this->start('once_across_servers', $file, '1')->end());
        self::assertSame(['it is done'], $this->start('once_across_servers', $file, '2')->end());
    }

    public function testIsNoticedWithoutTheLock(): void
    {
        $this->grantAll();
        $this->assertNotices($this->oneOfTenDoesIt(...));
    }

    public function testIsNoticedWithoutTheMark(): void
    {
        $mark = '$client->owner(gethostname() . \':\' . getmypid())->lock("nightly report of $day", lease: 36 * 3600);';
        $this->vary('once_across_servers', $mark, '');
        $this->assertNotices($this->oneOfTenDoesIt(...));
    }

    public function testTheNextOneDoesItWhenOneDies(): void
    {
        $this->vary('once_across_servers', 'file_put_contents(', 'fgets(STDIN) || file_put_contents(');
        $first = $this->start('once_across_servers', $this->file('report'), '1');
        $this->await('the first', fn (): bool => $this->client->holder('nightly report') !== null);
        $second = $this->start('once_across_servers', $this->file('report'), '1');
        $this->awaitWaiting('nightly report', $second);
        $first->kill();
        self::assertSame(['it is done'], $second->end());
        self::assertFileExists($this->file('report'));
    }

    private function oneOfTenDoesIt(): void
    {
        $runs = [];
        for ($server = 0; $server < 10; $server++) {
            $runs[] = $this->start('once_across_servers', $this->file('report'), '1');
        }
        $said = array_merge(...array_map(static fn (Run $run): array => $run->end(), $runs));
        sort($said);
        self::assertSame(['it is done', ...array_fill(0, 9, 'it is done already')], $said);
        self::assertFileExists($this->file('report'));
    }
}
