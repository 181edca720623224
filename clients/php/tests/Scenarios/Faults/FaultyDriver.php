<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Faults;

use Elock\Tests\Scenarios\Driver;
use Elock\Tests\Scenarios\DriverLock;

final class FaultyDriver implements Driver
{
    public function __construct(private readonly Driver $driver, private readonly Fault $fault)
    {
    }

    public function lock(string $name, float $seconds, ?string $owner, bool $keep): DriverLock
    {
        $name = match ($this->fault) {
            Fault::NamesAreMerged => rawurldecode($name),
            Fault::NamesAreTrimmed => trim($name, ' '),
            Fault::NamesAreCut => substr($name, 0, 250),
            default => $name,
        };
        $seconds = match (true) {
            $this->fault === Fault::NoLease => 0.0,
            $this->fault === Fault::AlwaysALease && $seconds === 0.0 => 1.0,
            default => $seconds,
        };
        if ($this->fault === Fault::OwnersAreMerged && $owner !== null) {
            $owner = rawurldecode($owner);
        }
        return new FaultyLock($this->driver->lock($name, $seconds, $owner, $keep), $this->fault);
    }

    public function forked(): void
    {
        $this->driver->forked();
    }
}
