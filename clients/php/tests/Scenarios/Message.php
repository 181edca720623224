<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

/**
 * Anything at all as one line: names and owners are bytes.
 */
final class Message
{
    public static function line(mixed $content): string
    {
        return base64_encode(serialize($content));
    }

    public static function read(string $line): mixed
    {
        return unserialize(base64_decode($line, true) ?: '');
    }
}
