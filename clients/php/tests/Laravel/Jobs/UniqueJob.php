<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel\Jobs;

use Illuminate\Contracts\Queue\ShouldBeUnique;

final class UniqueJob extends Job implements ShouldBeUnique
{
    public int $uniqueFor = 1000;

    public function uniqueId(): string
    {
        return '7';
    }
}
