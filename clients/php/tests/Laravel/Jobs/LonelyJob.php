<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel\Jobs;

use Illuminate\Queue\Middleware\WithoutOverlapping;

final class LonelyJob extends Job
{
    /** To be put back is an attempt. */
    public int $tries = 10;

    /** @return list<object> */
    public function middleware(): array
    {
        return [(new WithoutOverlapping('import'))->expireAfter(1000)];
    }
}
