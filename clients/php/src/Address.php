<?php

declare(strict_types=1);

namespace Elock;

/**
 * Where a server is: `tcp://HOST:PORT` or `elock://HOST:PORT`, `tls://HOST:PORT` or `elocks://HOST:PORT`,
 * `unix:///PATH` or `elock+unix:/PATH`. The port is 11400 unless given, and so is `tcp://`. Before the host there may
 * be a user and a password, `elocks://web:secret@db1`, or a password alone, `elocks://:secret@db1`; characters other
 * than letters, digits and `-._~` are written as `%XX`.
 */
final class Address implements \Stringable
{
    public const DEFAULT_PORT = 11400;

    private const TRANSPORTS = ['tcp' => 'tcp', 'elock' => 'tcp', 'tls' => 'tls', 'elocks' => 'tls'];
    private const UNIX = '~^(?:unix|elock\+unix):(?://(?=/))?(/.+)$~s';
    private const INTERNET = '~^(?:([a-z]+)://(?:([^/@\s]*)@)?)?' . self::HOST . '(?::(\d{1,5}))?/?$~';
    private const HOST = '(\[[0-9A-Fa-f:.%a-z]+\]|[^/:\[\]?\#@\s]+)';

    private function __construct(
        /** As PHP's streams take it. */
        public readonly string $remote,
        /** What stands before the host. */
        public readonly ?Credentials $credentials = null,
    ) {
    }

    /**
     * @throws \InvalidArgumentException it is none of these forms
     */
    public static function parse(#[\SensitiveParameter] string $address): self
    {
        if (preg_match(self::UNIX, $address, $found)) {
            return new self("unix://$found[1]");
        }
        if (preg_match(self::INTERNET, $address, $found)) {
            $transport = self::TRANSPORTS[$found[1] === '' ? 'tcp' : $found[1]] ?? null;
            $port = (int)($found[4] ?? self::DEFAULT_PORT);
            if ($transport !== null && $port >= 1 && $port <= 65535) {
                return new self("$transport://$found[3]:$port", self::credentials($found[2]));
            }
        }
        throw new \InvalidArgumentException(sprintf(
            'no address of a server: "%s"; it is tcp://HOST:PORT, elocks://HOST:PORT or unix:///PATH',
            // What is before it may be a password.
            str_contains($address, '@') ? '...' . strrchr($address, '@') : $address,
        ));
    }

    private static function credentials(#[\SensitiveParameter] string $text): ?Credentials
    {
        if ($text === '') {
            return null;
        }
        [$user, $password] = explode(':', $text, 2) + [1 => null];
        return Credentials::of(
            $user === '' ? null : rawurldecode($user),
            $password === null ? null : rawurldecode($password),
        );
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
