<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel\Jobs;

use Illuminate\Support\Facades\Cache;

final class BoundJob extends Job
{
    public function handle(): void
    {
        Cache::lock('import')->boundToConnection()->block(30, fn () => parent::handle());
    }
}
