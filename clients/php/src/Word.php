<?php

declare(strict_types=1);

namespace Elock;

/**
 * A key, a value or an owner as it stands in a request: made by {@see Naming}, so that no name goes out
 * that would be two words, or another one's.
 */
final class Word
{
    /** @internal */
    public function __construct(
        /** The bytes that are sent. */
        public readonly string $bytes,
        /** What the application calls it. */
        public readonly string $name,
    ) {
    }
}
