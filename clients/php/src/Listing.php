<?php

declare(strict_types=1);

namespace Elock;

use Elock\Exception\ServerException;

/**
 * The lists that the server sends: a word and a JSON object in each line.
 *
 * @internal
 */
final class Listing
{
    /**
     * @param list<string> $lines
     * @return list<array<string, mixed>>
     */
    public static function read(array $lines, string $word): array
    {
        $entries = [];
        foreach ($lines as $line) {
            if (!str_starts_with($line, "$word ")) {
                continue;
            }
            $entry = json_decode(substr($line, strlen($word) + 1), true);
            if (!is_array($entry)) {
                throw new ServerException("no JSON where some should be: $line");
            }
            /** @var array<string, mixed> $entry */
            $entries[] = $entry;
        }
        return $entries;
    }

    /**
     * The word with which the list goes on, if there is more.
     *
     * @param list<string> $lines
     */
    public static function next(array $lines): ?string
    {
        $last = $lines === [] ? '' : $lines[count($lines) - 1];
        return str_starts_with($last, 'NEXT ') ? substr($last, strlen('NEXT ')) : null;
    }

    /**
     * A member as the bytes that it stands for: some cannot be shown, and are told in base64 beside it.
     *
     * @param array<array-key, mixed> $entry
     */
    public static function bytes(array $entry, string $member): ?string
    {
        $exact = $entry["{$member}_base64"] ?? null;
        $shown = $entry[$member] ?? null;
        if (is_string($exact)) {
            return (string)base64_decode($exact, true);
        }
        return is_string($shown) ? $shown : null;
    }
}
