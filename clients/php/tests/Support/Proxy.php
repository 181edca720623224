<?php

declare(strict_types=1);

namespace Elock\Tests\Support;

/**
 * Stands before a server, and breaks connections when it is told to: see scripts/proxy.php.
 */
final class Proxy
{
    private readonly Worker $worker;
    private readonly int $port;

    /** @param string|null $certificate with which it speaks TLS */
    public function __construct(Server $server, private readonly ?string $certificate = null)
    {
        $target = substr($server->tcp(), strlen('tcp://'));
        $arguments = $certificate === null ? [$target] : [$target, $certificate];
        $this->worker = new Worker(__DIR__ . '/scripts/proxy.php', $arguments);
        $this->port = (int)$this->worker->hear();
    }

    public function address(): string
    {
        return ($this->certificate === null ? 'tcp' : 'tls') . "://127.0.0.1:$this->port";
    }

    public function tell(string $line): void
    {
        $this->worker->ask($line);
    }
}
