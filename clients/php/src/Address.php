<?php

declare(strict_types=1);

namespace Elock;

/**
 * Where a server is: `tcp://HOST:PORT` or `elock://HOST:PORT`, `tls://HOST:PORT` or `elocks://HOST:PORT`,
 * `unix:///PATH` or `elock+unix:/PATH`. The port is 11400 unless given, and so is `tcp://`.
 */
final class Address implements \Stringable
{
    public const DEFAULT_PORT = 11400;

    private const TRANSPORTS = ['tcp' => 'tcp', 'elock' => 'tcp', 'tls' => 'tls', 'elocks' => 'tls'];
    private const UNIX = '~^(?:unix|elock\+unix):(?://(?=/))?(/.+)$~s';
    private const INTERNET = '~^(?:([a-z]+)://)?(\[[0-9A-Fa-f:.%a-z]+\]|[^/:\[\]?\#@\s]+)(?::(\d{1,5}))?/?$~';

    private function __construct(
        /** As PHP's streams take it. */
        public readonly string $remote,
    ) {
    }

    /**
     * @throws \InvalidArgumentException it is none of these forms
     */
    public static function parse(string $address): self
    {
        if (preg_match(self::UNIX, $address, $found)) {
            return new self("unix://$found[1]");
        }
        if (preg_match(self::INTERNET, $address, $found)) {
            $transport = self::TRANSPORTS[$found[1] === '' ? 'tcp' : $found[1]] ?? null;
            $port = (int)($found[3] ?? self::DEFAULT_PORT);
            if ($transport !== null && $port >= 1 && $port <= 65535) {
                return new self("$transport://$found[2]:$port");
            }
        }
        throw new \InvalidArgumentException(sprintf(
            'no address of a server: "%s"; it is tcp://HOST:PORT, tls://HOST:PORT or unix:///PATH',
            $address,
        ));
    }

    public function isTcp(): bool
    {
        return !str_starts_with($this->remote, 'unix:');
    }

    public function isEncrypted(): bool
    {
        return str_starts_with($this->remote, 'tls:');
    }

    public function __toString(): string
    {
        return $this->remote;
    }
}
