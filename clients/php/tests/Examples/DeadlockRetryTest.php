<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

final class DeadlockRetryTest extends ExampleTestCase
{
    public function testBothFinish(): void
    {
        $this->bothFinish();
    }

    public function testIsNoticedWithoutARelease(): void
    {
        $this->vary(
            'deadlock_retry',
            '$lock->release() || throw new RuntimeException("{$lock->key()} was lost meanwhile");',
            '',
        );
        $this->assertNotices($this->bothFinish(...));
    }

    public function testIsNoticedWithoutARetry(): void
    {
        $this->vary('deadlock_retry', '$attempt === 20', 'true');
        $this->assertNotices($this->bothFinish(...));
    }

    private function bothFinish(): void
    {
        // Where this lets go of y, the first has it and asks for x, for which the second's holder waits behind it.
        $door = $this->client->lock('y');
        $first = $this->start('deadlock_retry', 'y', 'x');
        $this->awaitWaiting('y', $first);
        $second = $this->start('deadlock_retry', 'x', 'y');
        $this->awaitWaiting('y', $second, 2);
        self::assertTrue($door->release());
        self::assertSame(0, $first->code(), implode("\n", $first->said()));
        self::assertSame(0, $second->code(), implode("\n", $second->said()));
        self::assertSame(['working with x and y'], $second->said());
        self::assertMatchesRegularExpression(
            "/^session \d+ waits for x\nsession \d+ waits for y\nworking with y and x$/",
            implode("\n", $first->said()),
        );
    }
}
