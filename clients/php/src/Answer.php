<?php

declare(strict_types=1);

namespace Elock;

use Elock\Exception\DeadlockException;
use Elock\Exception\ElockException;
use Elock\Exception\InvalidRequestException;
use Elock\Exception\LostException;
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
        if (in_array($this->code, $codes, true)) {
            return false;
        }
        throw $this->exception();
    }

    /**
     * @throws ElockException any answer but `200`, by its kind
     */
    public function orThrow(): self
    {
        return $this->isOk() ? $this : throw $this->exception();
    }

    /** What an answer other than `200` is thrown as. */
    public function exception(): ElockException
    {
        $text = "$this->code $this->text";
        return match (true) {
            $this->code === self::BAD_REQUEST && str_starts_with($this->text, 'Unknown command')
                => UnsupportedException::because($text),
            $this->code === self::BAD_REQUEST && str_starts_with($this->text, 'Usage: ')
                => UnsupportedException::because($text),
            $this->code === self::BAD_REQUEST, $this->code === self::TOO_LONG
                => new InvalidRequestException($text),
            $this->code === self::NOT_HELD => new LostException($text),
            $this->code === self::UNAVAILABLE => new RefusedException($text),
            $this->code === self::DEADLOCK => new DeadlockException($text),
            $this->code === self::STOPPING && !str_starts_with($this->text, 'Too many')
                => new ServerStoppingException($text),
            $this->code === self::STOPPING, $this->code === self::FULL => new ServerFullException($text),
            default => new ServerException($text),
        };
    }
}
