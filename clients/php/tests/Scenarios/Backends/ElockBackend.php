<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Backends;

use Elock\Client;
use Elock\Tests\Support\Server;

final class ElockBackend implements Backend
{
    private readonly Server $server;
    private ?Client $observer = null;

    public function __construct(bool $hasStore)
    {
        $this->server = $hasStore ? Server::startWithStore() : Server::start();
    }

    public function address(): string
    {
        return $this->tcp();
    }

    public function tcp(): string
    {
        return $this->server->tcp();
    }

    public function unix(): string
    {
        return $this->server->unix();
    }

    public function waiters(): int
    {
        $this->observer ??= new Client($this->server->unix());
        return (int)$this->observer->info()['waiters'];
    }

    public function restart(): void
    {
        $this->kill();
        $this->run();
    }

    public function kill(): void
    {
        $this->server->kill();
    }

    public function run(): void
    {
        $this->server->run();
    }

    public function signal(int $signal): void
    {
        $this->server->signal($signal);
    }
}
