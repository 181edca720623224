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
        $this->letItPause();
        $first = $this->start('once_across_servers', $this->file('report'), '1');
        $this->awaitSaid($first, 'pausing');
        $second = $this->start('once_across_servers', $this->file('report'), '1');
        $this->awaitWaiting('nightly report', $second);
        $first->kill();
        self::assertSame(['pausing', 'it is done'], $second->end());
        self::assertFileExists($this->file('report'));
    }

    public function testALostLockIsNoticed(): void
    {
        $this->letItPause();
        $run = $this->start('once_across_servers', $this->file('report'), '1');
        $this->awaitSaid($run, 'pausing');
        $this->loseLocks();
        self::assertSame(255, $run->code());
        self::assertStringContainsString('the lock is lost', implode("\n", $run->said()));
        self::assertFileDoesNotExist($this->file('report'));
    }

    /** At its work, until its input ends. */
    private function letItPause(): void
    {
        $pause = 'fwrite(STDOUT, "pausing\n") && fgets(STDIN) || ';
        $this->vary('once_across_servers', 'file_put_contents(', "{$pause}file_put_contents(");
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
