<?php

declare(strict_types=1);

namespace Elock;

/**
 * Who holds a key: a session, by its number, or an owner. Of several, the one with the lowest token.
 */
final class KeyHolder
{
    /** @internal */
    public function __construct(
        /** The fencing token of its grant. */
        public readonly int $token,
        public readonly ?int $session,
        /** The owner, as the application calls it. */
        public readonly ?string $owner,
    ) {
    }
}
