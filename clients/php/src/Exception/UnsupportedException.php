<?php

declare(strict_types=1);

namespace Elock\Exception;

/**
 * The server does not know what this package needs: it is an older one, or one of those that elockd takes the place of.
 */
final class UnsupportedException extends ElockException
{
    /** @internal */
    public static function because(string $answer): self
    {
        return new self(match ($answer) {
            '400 This port speaks TLS only' => 'this port speaks TLS only: name it elocks://HOST:PORT',
            default => "this server is too old, or is no elockd: it answered \"$answer\"",
        });
    }
}
