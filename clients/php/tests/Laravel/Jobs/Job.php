<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel\Jobs;

use Illuminate\Bus\Queueable;
use Illuminate\Contracts\Queue\ShouldQueue;
use Illuminate\Queue\InteractsWithQueue;

/**
 * A job that says so when it begins, and ends when it is told.
 */
abstract class Job implements ShouldQueue
{
    use InteractsWithQueue;
    use Queueable;

    public function handle(): void
    {
        fwrite(STDOUT, "begun\n");
        fgets(STDIN);
    }
}
