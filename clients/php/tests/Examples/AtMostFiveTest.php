<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

final class AtMostFiveTest extends ExampleTestCase
{
    public function testNeverMoreThanFive(): void
    {
        $this->neverMoreThanFive();
    }

    public function testIsNoticedWithoutTheSlots(): void
    {
        $this->grantAll();
        $this->assertNotices($this->neverMoreThanFive(...));
    }

    public function testALostSlotIsNoticed(): void
    {
        $run = $this->start('at_most_five');
        $this->awaitSaid($run, 'in');
        $this->loseLocks();
        $run->tell('someone@example.org');
        self::assertSame(255, $run->code());
        $said = implode("\n", $run->said());
        self::assertStringContainsString('the slot is lost', $said);
        self::assertStringNotContainsString('someone@example.org', $said);
    }

    private function neverMoreThanFive(): void
    {
        $runs = [];
        for ($number = 0; $number < 12; $number++) {
            $runs[] = $this->start('at_most_five');
        }
        while ($runs !== []) {
            $in = [];
            $this->await('all in, or in the queue', function () use ($runs, &$in): bool {
                $in = array_filter($runs, static fn (Run $run): bool => $run->said() !== []);
                return count($in) + $this->waiting('mailer') === count($runs);
            });
            self::assertCount(min(5, count($runs)), $in);
            $number = array_key_first($in);
            $in[$number]->tell('someone@example.org');
            self::assertSame(['in', 'a mail to someone@example.org'], $in[$number]->end());
            unset($runs[$number]);
        }
    }
}
