<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Psr\Log\AbstractLogger;

final class Log extends AbstractLogger
{
    /** @var list<mixed> of what was logged */
    public array $levels = [];

    public function log($level, $message, array $context = []): void
    {
        $this->levels[] = $level;
    }
}
