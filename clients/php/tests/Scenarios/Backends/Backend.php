<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Backends;

/**
 * The server under a scenario.
 */
interface Backend
{
    public function address(): string;

    public function tcp(): string;

    public function unix(): string;

    /** How many requests wait in its queues; null: it has none, clients ask again and again. */
    public function waiters(): ?int;

    /** Without a farewell, as in a crash; and starts again. */
    public function restart(): void;

    public function kill(): void;

    public function run(): void;

    /** SIGSTOP and SIGCONT. */
    public function signal(int $signal): void;
}
