<?php

declare(strict_types=1);

namespace Elock;

/**
 * How names become words of the protocol. Any bytes will do for a name, and two names are never one word.
 */
enum Naming
{
    /**
     * An ordinary name is its own word, so that other clients, telnet among them, see the same key. Space,
     * control characters and `%` are sent as `%XX`; an empty name as `%-`; a name whose word would be
     * longer than 200 bytes as its beginning, `%#` and its SHA-256.
     */
    case Encoded;

    /**
     * Keys and values as their SHA-1, in hexadecimal digits, as the public eLock client
     * (`yusitnikov/php-elock-client`) sends them: the same keys as there.
     */
    case Sha1;

    private const LONGEST = 200;
    private const SHOWN_OF_LONG = 100;

    public function key(string $name): Word
    {
        return new Word($this === self::Sha1 ? sha1($name) : self::encoded($name), $name);
    }

    /** The value that those who share a lock have in common. */
    public function value(string $name): Word
    {
        return $this->key($name);
    }

    /** Owners are unknown to the public client, and encoded by either naming. */
    public function owner(string $name): Word
    {
        return new Word(self::encoded($name), $name);
    }

    /**
     * The name that became this word, as far as the word tells.
     */
    public function name(string $word): string
    {
        if ($this === self::Sha1) {
            return $word;
        }
        return $word === '%-' ? '' : (string)preg_replace_callback(
            '/%([0-9A-F]{2})/',
            static fn (array $found): string => chr((int)hexdec($found[1])),
            $word,
        );
    }

    private static function encoded(string $name): string
    {
        if ($name === '') {
            return '%-';
        }
        // Most names, told at less cost than below.
        if (ctype_graph($name) && strlen($name) <= self::LONGEST && !str_contains($name, '%') && $name[0] !== 'H') {
            return $name;
        }
        $word = (string)preg_replace_callback(
            // A word that begins like the last one of an HTTP request would end the connection.
            '/[\x00-\x20\x7F%]|^H(?=TTP\/)/',
            static fn (array $found): string => sprintf('%%%02X', ord($found[0])),
            $name,
        );
        if (strlen($word) <= self::LONGEST) {
            return $word;
        }
        return substr($word, 0, self::SHOWN_OF_LONG) . '%#' . hash('sha256', $name);
    }
}
