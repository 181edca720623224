<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

final class DlockTest extends ExampleTestCase
{
    protected function environment(): array
    {
        return ['DLOCK_AUTOLOAD' => dirname(__DIR__) . '/Dlock/stand_in.php'];
    }

    public function testOneAtATimeInTheQueue(): void
    {
        $this->oneAtATime();
        self::assertSame('1', $this->client->info()['hand_overs']);
    }

    public function testIsNoticedWithoutTheLock(): void
    {
        $this->grantAll();
        $this->assertNotices($this->oneAtATime(...));
    }

    public function testALostLockIsNoticed(): void
    {
        $run = $this->start('dlock', $this->file('text'));
        $this->awaitSaid($run, 'working');
        self::assertTrue($this->client->break('dlock:import'));
        self::assertSame(255, $run->code());
        self::assertStringContainsString('403', implode("\n", $run->said()));
        self::assertFileDoesNotExist($this->file('text'));
    }

    private function oneAtATime(): void
    {
        $first = $this->start('dlock', $this->file('text'));
        $this->awaitSaid($first, 'working');
        $second = $this->start('dlock', $this->file('text'));
        $this->awaitWaiting('dlock:import', $second);
        self::assertSame(['working', 'done'], $first->end());
        self::assertSame(['working', 'done'], $second->end());
    }
}
