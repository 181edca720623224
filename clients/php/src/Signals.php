<?php

declare(strict_types=1);

namespace Elock;

/**
 * Handlers of signals run where this package waits, and nowhere else in it. One that throws between any two other steps
 * would have a lock granted that nobody knows of; and PHP itself, as of 8.2, now and then skips a `finally` then.
 *
 * @internal
 */
final class Signals
{
    /** @var \WeakReference<\Throwable>|null what the last handler threw that did */
    private static ?\WeakReference $thrown = null;

    /**
     * From now on handlers wait for {@see dispatch()}.
     *
     * @return bool whether they came at any moment before
     */
    public static function hold(): bool
    {
        return function_exists('pcntl_async_signals') && pcntl_async_signals(false);
    }

    /** @param bool $isAsync what {@see hold()} said */
    public static function letGo(bool $isAsync): void
    {
        if ($isAsync) {
            pcntl_async_signals(true);
            // Those that came meanwhile are nobody's otherwise, until the next one comes.
            self::dispatch();
        }
    }

    /** Runs the handlers of what has come, and throws what they throw. */
    public static function dispatch(): void
    {
        if (!function_exists('pcntl_signal_dispatch')) {
            return;
        }
        try {
            pcntl_signal_dispatch();
        } catch (\Throwable $thrown) {
            self::$thrown = \WeakReference::create($thrown);
            throw $thrown;
        }
    }

    /** Whether a handler threw this: then it is no problem of the connection's, whatever its class. */
    public static function threw(\Throwable $problem): bool
    {
        return self::$thrown?->get() === $problem;
    }
}
