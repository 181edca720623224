<?php

declare(strict_types=1);

namespace Elock;

use Elock\Exception\AccessException;
use Elock\Exception\DeadlockException;
use Elock\Exception\ElockException;
use Elock\Exception\InvalidRequestException;
use Elock\Exception\LostException;
use Elock\Exception\NoLeaderException;
use Elock\Exception\RefusedException;
use Elock\Exception\ServerException;
use Elock\Exception\ServerFullException;
use Elock\Exception\ServerStoppingException;
use Elock\Exception\UnsupportedException;

/**
 * What the server said to one request.
 */
final class Answer
{
    public const OK = 200;
    public const BAD_REQUEST = 400;
    public const UNAUTHORIZED = 401;
    public const NOT_HELD = 403;
    public const UNAVAILABLE = 409;
    public const TOO_LONG = 413;
    public const DEADLOCK = 423;
    public const FAILED = 500;
    public const STOPPING = 503;
    public const FULL = 507;

    /**
     * @param list<string> $lines what followed, for requests with an answer of several lines
     * @internal
     */
    public function __construct(
        /** It alone decides. */
        public readonly int $code,
        /** For people. */
        public readonly string $text,
        public readonly array $lines = [],
        /** What it is the answer to. */
        public readonly ?Request $request = null,
    ) {
    }

    public function isOk(): bool
    {
        return $this->code === self::OK;
    }

    /**
     * Whether it is `200`, where it may be one of these codes as well.
     *
     * @throws ElockException any other answer, by its kind
     */
    public function isOkOr(int ...$codes): bool
    {
        if ($this->isOk()) {
            return true;
        }
        if (in_array($this->code, $codes, true) && !$this->isNotAllowed()) {
            return false;
        }
        throw $this->exception();
    }

    /** Whether the user may not do what was asked for, rather than that something else is in the way. */
    private function isNotAllowed(): bool
    {
        return $this->code === self::UNAUTHORIZED
            || ($this->code === self::NOT_HELD && $this->text === 'not_allowed');
    }

    /**
     * @param list<Word> $known words that may be in it, so that it can be told what the application calls them
     * @throws ElockException any answer but `200`, by its kind
     */
    public function orThrow(array $known = []): self
    {
        return $this->isOk() ? $this : throw $this->exception($known);
    }

    /**
     * What an answer other than `200` is thrown as.
     *
     * @param list<Word> $known as for {@see orThrow()}
     */
    public function exception(array $known = []): ElockException
    {
        $message = $this->forPeople();
        return match (true) {
            $this->code === self::BAD_REQUEST
                && preg_match('/^(Unknown command|Usage: |This port speaks TLS only)/', $this->text) === 1
                => UnsupportedException::because("$this->code $this->text"),
            $this->code === self::BAD_REQUEST, $this->code === self::TOO_LONG
                => new InvalidRequestException($message, $this->code),
            $this->isNotAllowed() => new AccessException($message, $this->code),
            $this->code === self::NOT_HELD => new LostException($message, $this->code),
            $this->code === self::UNAVAILABLE && str_starts_with($this->text, 'Alone')
                => new ServerException("$this->code $this->text", $this->code),
            $this->code === self::UNAVAILABLE => new RefusedException($message, $this->code),
            $this->code === self::DEADLOCK => DeadlockException::because($message, $this, $known),
            $this->code === self::STOPPING && $this->text === 'No leader'
                => new NoLeaderException($message, $this->code),
            $this->code === self::STOPPING && !str_starts_with($this->text, 'Too many')
                => new ServerStoppingException($message, $this->code),
            $this->code === self::STOPPING, $this->code === self::FULL
                => new ServerFullException($message, $this->code),
            default => new ServerException($message, $this->code),
        };
    }

    /** With the name of the key, and the server's own words. */
    private function forPeople(): string
    {
        $said = "$this->code $this->text";
        $key = $this->request?->key?->name;
        if ($key === null) {
            return $this->code === self::UNAVAILABLE ? "others hold one of these locks ($said)" : $said;
        }
        $key = '"' . addcslashes($key, "\0..\37\177") . '"';
        $happened = match ("$this->code $this->text") {
            '403 revoked' => "an operator has taken $key",
            '403 expired' => "the lease of $key has ended",
            '403 not_yours' => "$key is held by others",
            '403 not_locked' => "$key is held by nobody",
            default => match ($this->code) {
                self::UNAVAILABLE => match (strstr($this->request->line, ' ', true)) {
                    'promote' => "$key is shared by others",
                    'demote' => "$key is shared by another value, or is a slot",
                    default => "$key is held by others",
                },
                self::DEADLOCK => "waiting for $key would be a deadlock",
                default => null,
            },
        };
        return $happened === null ? "$key: $said" : "$happened ($said)";
    }
}
