<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

/**
 * One lock. Answers are those of {@see Outcome}; null is what the framework does not tell. A {@see NotOffered} says
 * that it has no such thing; any other exception, that it failed.
 */
interface DriverLock
{
    public function take(): ?string;

    /** @param float $seconds how long to wait at most; 0: the framework's own way, which may be for ever */
    public function block(float $seconds): ?string;

    /** Takes it together with others who only read. */
    public function takeShared(): ?string;

    /** @param float $seconds the new lease */
    public function refresh(float $seconds): ?string;

    public function release(): ?string;

    /** In disregard of who has it. */
    public function forceRelease(): ?string;

    public function isMine(): ?string;

    /** Whether anybody has it. */
    public function isLocked(): ?string;

    /** By which another process can make this lock again. */
    public function owner(): string;
}
