<?php

declare(strict_types=1);

namespace Elock\Symfony;

use Elock\Address;
use Elock\Client;
use Elock\Options;

/**
 * `elock://HOST:PORT`, `elocks://HOST:PORT` (TLS) or `elock+unix:/PATH`, perhaps with `USER:PASSWORD@` before the host,
 * and perhaps a query: `timeout`, `connect_timeout`, `name`, `keys`, `user`, `password`, `ca`, `cert`, `key` and
 * `tls[…]` as in {@see Options::fromArray()}; `ttl` and `wait`, in seconds, as in {@see ElockStore}.
 *
 * @internal
 */
final class Dsn
{
    private const FORM = '~^(?:elocks?://|elock\+unix:/)~';
    private const OF_STORE = ['ttl', 'wait'];

    /** @var array<string, \WeakReference<Client>> by the server and the options */
    private static array $clients = [];

    /** @param array<array-key, mixed> $settings */
    private function __construct(private readonly Address $address, private readonly array $settings)
    {
    }

    /** Whether it is one of these forms. */
    public static function isOne(mixed $dsn): bool
    {
        return is_string($dsn) && preg_match(self::FORM, $dsn) === 1;
    }

    /**
     * @throws \InvalidArgumentException an address or a setting that is none
     */
    public static function parse(#[\SensitiveParameter] string $dsn): self
    {
        [$address, $query] = explode('?', $dsn, 2) + [1 => ''];
        parse_str($query, $settings);
        return new self(Address::parse($address), $settings);
    }

    /**
     * The stores of a process that have the same server and options have one client: who holds one lock and waits for
     * another does so as one session, so that the server sees deadlocks.
     *
     * @throws \InvalidArgumentException a setting that is none
     */
    public function client(): Client
    {
        $settings = array_diff_key($this->settings, array_flip(self::OF_STORE));
        ksort($settings);
        $who = $this->address->credentials?->fingerprint();
        $name = hash('sha256', serialize([(string)$this->address, $who, $settings]));
        $client = (self::$clients[$name] ?? null)?->get();
        if ($client === null) {
            $client = new Client($this->address, Options::fromArray($settings));
            self::$clients[$name] = \WeakReference::create($client);
        }
        return $client;
    }

    /**
     * @return float|null in seconds; null: not set
     * @throws \InvalidArgumentException it is no number above 0
     */
    public function seconds(string $name): ?float
    {
        $value = $this->settings[$name] ?? null;
        if ($value === null) {
            return null;
        }
        if (!is_numeric($value) || !((float)$value > 0.0)) {
            throw new \InvalidArgumentException("\"$name\" in the DSN is a number of seconds above 0");
        }
        return (float)$value;
    }

    /**
     * @throws \InvalidArgumentException one of these is set
     */
    public function refuse(string ...$names): self
    {
        foreach ($names as $name) {
            if (isset($this->settings[$name])) {
                throw new \InvalidArgumentException("\"$name\" in the DSN means nothing here");
            }
        }
        return $this;
    }
}
