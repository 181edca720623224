<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Drivers;

use Elock\Client;
use Elock\Tests\Scenarios\Driver;
use Elock\Tests\Scenarios\DriverLock;

/**
 * The client of this package alone.
 */
final class PlainDriver implements Driver
{
    public function __construct(private readonly Client $client)
    {
    }

    public function lock(string $name, float $seconds, ?string $owner, bool $keep): DriverLock
    {
        return new PlainLock($this->client, $name, $seconds, $owner ?? bin2hex(random_bytes(8)));
    }

    public function forked(): void
    {
    }
}
