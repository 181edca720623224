<?php

declare(strict_types=1);

namespace Elock;

use Psr\Log\LoggerInterface;

/**
 * How a {@see Client} behaves. All times are in seconds.
 */
final class Options
{
    /** What PHP's streams call these settings. */
    private const FILES = ['ca' => 'cafile', 'cert' => 'local_cert', 'key' => 'local_pk'];
    /** Ten years, in seconds; the server has a bound of its own, a day unless set otherwise. */
    private const LONGEST_GRACE = 315_360_000.0;

    /** Who comes, unless the address says it. */
    public readonly ?Credentials $credentials;

    /**
     * @param string|null $name what the client is called where people look: `elock locks`, the server's log; by
     *     default the machine, the process and the script
     * @param float|null $grace how long locks of this connection outlive it when it breaks (those of owners are no
     *     connection's); by default as the server has it, which is 30 s unless set otherwise
     * @param float $connectTimeout how long one try to connect may take
     * @param float $timeout how long an answer may take, beyond what a request waits for a lock
     * @param Naming $naming how keys are sent; `Naming::Sha1` for the keys of the public eLock client
     * @param LoggerInterface|null $logger told of broken connections and lost locks (warning), of reconnects (info)
     * @param array<string, mixed> $tls PHP's context options for `elocks://`, such as `cafile`
     * @param string|null $user who comes, where the server asks for that; unless the address says it
     * @param string|null $password that of the user, or, without one, the one that the server has for all
     */
    public function __construct(
        public readonly ?string $name = null,
        public readonly ?float $grace = null,
        public readonly float $connectTimeout = 2.0,
        public readonly float $timeout = 5.0,
        public readonly Naming $naming = Naming::Encoded,
        public readonly ?LoggerInterface $logger = null,
        public readonly array $tls = [],
        ?string $user = null,
        #[\SensitiveParameter]
        ?string $password = null,
    ) {
        $this->credentials = Credentials::of($user, $password);
        if (!($connectTimeout > 0.0) || !($timeout > 0.0)) {
            throw new \InvalidArgumentException('connectTimeout and timeout are more than 0 seconds');
        }
        $grace === null || self::graceMs($grace);
    }

    /**
     * In the protocol's milliseconds.
     *
     * @internal
     * @throws \InvalidArgumentException it is none, and as a whole number would be 0: no grace at all
     */
    public static function graceMs(float $seconds): int
    {
        if (!($seconds >= 0.0 && $seconds <= self::LONGEST_GRACE)) {
            throw new \InvalidArgumentException("the grace period is 0 seconds to ten years, and not $seconds");
        }
        return (int)ceil($seconds * 1000.0);
    }

    /**
     * From a configuration file or the query of a DSN: `name`, `grace`, `connect_timeout`, `timeout`, `keys` (`encoded`
     * or `sha1`), `user`, `password`, `tls`, and of the latter's options the files `ca`, `cert` and `key`.
     *
     * @param array<array-key, mixed> $settings null counts as not set
     * @throws \InvalidArgumentException an unknown setting, or a value that is none
     */
    public static function fromArray(
        #[\SensitiveParameter]
        array $settings,
        ?LoggerInterface $logger = null,
    ): self {
        $settings = array_filter($settings, static fn (mixed $value): bool => $value !== null);
        $known = ['name', 'grace', 'connect_timeout', 'timeout', 'keys', 'user', 'password'];
        array_push($known, 'tls', ...array_keys(self::FILES));
        $unknown = array_diff(array_keys($settings), $known);
        if ($unknown !== []) {
            $unknown = implode(', ', $unknown);
            throw new \InvalidArgumentException("no setting of elock: $unknown; these are: " . implode(', ', $known));
        }
        $tls = $settings['tls'] ?? [];
        if (!is_array($tls)) {
            throw new \InvalidArgumentException(
                '"tls" is an array of context options; the address says whether there is TLS',
            );
        }
        foreach (self::FILES as $name => $option) {
            $tls += isset($settings[$name]) ? [$option => self::text($settings, $name)] : [];
        }
        return new self(
            self::text($settings, 'name'),
            isset($settings['grace']) ? self::seconds($settings, 'grace') : null,
            isset($settings['connect_timeout']) ? self::seconds($settings, 'connect_timeout') : 2.0,
            isset($settings['timeout']) ? self::seconds($settings, 'timeout') : 5.0,
            match ($settings['keys'] ?? 'encoded') {
                'encoded' => Naming::Encoded,
                'sha1' => Naming::Sha1,
                default => throw new \InvalidArgumentException('"keys" is "encoded" or "sha1"'),
            },
            $logger,
            array_combine(array_map(strval(...), array_keys($tls)), $tls),
            self::text($settings, 'user'),
            self::text($settings, 'password'),
        );
    }

    /** @param array<array-key, mixed> $settings */
    private static function text(#[\SensitiveParameter] array $settings, string $name): ?string
    {
        $value = $settings[$name] ?? null;
        if ($value !== null && !is_scalar($value)) {
            throw new \InvalidArgumentException("\"$name\" is text");
        }
        return $value === null ? null : (string)$value;
    }

    /** @param array<array-key, mixed> $settings */
    private static function seconds(array $settings, string $name): float
    {
        $value = $settings[$name] ?? null;
        if (!is_numeric($value)) {
            throw new \InvalidArgumentException("\"$name\" is a number of seconds");
        }
        return (float)$value;
    }
}
