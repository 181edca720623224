<?php

declare(strict_types=1);

namespace Elock\Tests\Support;

use Psr\Log\AbstractLogger;

/**
 * Remembers what it is told.
 */
final class Memory extends AbstractLogger
{
    /** @var list<string> level and message */
    public array $lines = [];
    /** Whether it throws instead. */
    public bool $isFull = false;

    /**
     * @param mixed $level
     * @param string|\Stringable $message
     * @param array<array-key, mixed> $context
     */
    public function log($level, $message, array $context = []): void
    {
        $this->isFull && throw new \UnexpectedValueException('no room left');
        $values = [];
        foreach ($context as $name => $value) {
            $values["{{$name}}"] = is_scalar($value) ? (string)$value : get_debug_type($value);
        }
        $this->lines[] = (is_string($level) ? $level : '?') . ' ' . strtr((string)$message, $values);
    }
}
