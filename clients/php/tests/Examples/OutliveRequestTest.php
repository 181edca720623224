<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

final class OutliveRequestTest extends ExampleTestCase
{
    public function testOpenKeepClose(): void
    {
        $this->openKeepClose();
    }

    public function testIsNoticedWithoutTheLock(): void
    {
        $this->grantAll();
        $this->assertNotices($this->openKeepClose(...));
    }

    public function testALostOne(): void
    {
        foreach (['keep', 'close'] as $action) {
            self::assertSame(['opened'], $this->request('open', 'one')->end());
            self::assertTrue($this->client->break('document 7'));
            $late = $this->request($action, 'one');
            self::assertSame(1, $late->code());
            self::assertStringContainsString('nothing is saved', $late->said()[0]);
        }
    }

    private function openKeepClose(): void
    {
        self::assertSame(['opened'], $this->request('open', 'one')->end());
        $other = $this->request('open', 'other');
        self::assertSame(1, $other->code());
        self::assertSame(['somebody else has it open'], $other->said());
        $this->client->owner((string)file_get_contents($this->file('one')))->held('document 7')->expire(60);
        self::assertSame(['kept'], $this->request('keep', 'one')->end());
        foreach ($this->client->locks('document 7') as $lock) {
            self::assertGreaterThan(600_000, $lock['holders'][0]['lease_left_ms']);
        }
        self::assertSame(['closed'], $this->request('close', 'one')->end());
        self::assertSame(['opened'], $this->request('open', 'other')->end());
    }

    private function request(string $action, string $session): Run
    {
        return $this->start('outlive_request', $action, $this->file($session));
    }
}
