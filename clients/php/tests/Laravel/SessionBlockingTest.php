<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Illuminate\Contracts\Cache\LockTimeoutException;

/**
 * Two requests of one visitor, each in a process.
 */
final class SessionBlockingTest extends ApplicationTestCase
{
    private const ID = '0123456789012345678901234567890123456789';
    private const KEY = 'appsession:' . self::ID;
    private const REQUEST = '$cookies = ["session" => "' . self::ID . '"];'
        . ' $request = Illuminate\Http\Request::create("/", "GET", [], $cookies);'
        . ' $route = (new Illuminate\Routing\Route("GET", "/", []))->block(60, %s);'
        . ' $request->setRouteResolver(fn () => $route);'
        . ' $caches = fn () => $app->make("cache");'
        . ' $start = new Illuminate\Session\Middleware\StartSession($app->make("session"), $caches);'
        . ' return $start->handle($request, function ($request) use ($app) {'
        . ' fwrite(STDOUT, "begun\n"); fgets(STDIN);'
        . ' return new Illuminate\Http\Response((string)$request->session()->increment("visits")); })->getContent();';

    public function testTheSecondRequestWaitsForTheFirst(): void
    {
        [$first, $second] = $this->processes();
        $first->start(sprintf(self::REQUEST, 30));
        self::assertSame('begun', $first->line());
        self::assertEqualsWithDelta(60, self::leaseOf(self::KEY), 30);
        $second->start(sprintf(self::REQUEST, 30));
        self::untilWaiting(self::KEY);
        $first->say('go on');
        self::assertSame('1', $first->result());
        self::assertSame('begun', $second->line());
        $second->say('go on');
        self::assertSame('2', $second->result());
        self::assertNull(self::seen(self::KEY));
    }

    public function testTheSecondRequestGivesUp(): void
    {
        [$first, $second] = $this->processes();
        $first->start(sprintf(self::REQUEST, 30));
        self::assertSame('begun', $first->line());
        $second->start(sprintf(self::REQUEST, 0));
        self::assertSame(LockTimeoutException::class, $second->answer()['thrown']);
        $first->say('go on');
        self::assertSame('1', $first->result());
    }

    /** @return list<Process> */
    private function processes(): array
    {
        return array_map(fn (): Process => new Process(self::$server, $this->settings()), range(1, 2));
    }
}
