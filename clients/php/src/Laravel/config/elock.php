<?php

/**
 * Locks by an elockd server. All times are in seconds.
 */

declare(strict_types=1);

return [

    // tcp://HOST:PORT, elocks://HOST:PORT (TLS) or unix:///PATH; several, in order of preference, as a list or with
    // commas.
    'servers' => env('ELOCK_SERVERS', 'tcp://127.0.0.1:11400'),

    // Put before the names of all locks, and before the prefix of the cache: tells applications apart on one server.
    'prefix' => env('ELOCK_PREFIX', ''),

    // When a lock ends that is asked for without seconds; 0: only when it is released.
    'default_seconds' => env('ELOCK_DEFAULT_SECONDS', 86400),

    // What this application is called where operators look ("elock locks"); null: machine, process and script.
    'name' => env('ELOCK_NAME'),

    // How long a lock that is bound to its connection outlives it; null: as the server has it.
    'grace' => env('ELOCK_GRACE'),

    // How long one try to connect may take, and an answer, beyond what a lock is waited for.
    'connect_timeout' => env('ELOCK_CONNECT_TIMEOUT', 2.0),
    'timeout' => env('ELOCK_TIMEOUT', 5.0),

    // "encoded", or "sha1" for the keys of the public eLock client.
    'keys' => env('ELOCK_KEYS', 'encoded'),

    // Who comes, where the server asks for that; without a user, it is the password that the server has for all.
    'user' => env('ELOCK_USER'),
    'password' => env('ELOCK_PASSWORD'),

    // For elocks://: the file of those whom servers' certificates must be signed by, if not by one that the system
    // trusts; and a certificate of the application's own, with its key, for a server that asks for one.
    'ca' => env('ELOCK_CA'),
    'cert' => env('ELOCK_CLIENT_CERT'),
    'key' => env('ELOCK_CLIENT_KEY'),

    // More of PHP's context options for elocks://, such as "peer_name".
    'tls' => [],

];
