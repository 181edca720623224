<?php

declare(strict_types=1);

namespace Elock;

/**
 * Who comes, as a server is told on each connection before anything else.
 */
final class Credentials
{
    /**
     * @param string|null $user null: the server has one password for all
     * @throws \InvalidArgumentException one of them cannot be sent
     */
    public function __construct(
        public readonly ?string $user,
        #[\SensitiveParameter]
        private readonly string $password,
    ) {
        foreach ([$user ?? 'x', $password] as $word) {
            if ($word === '' || strpbrk($word, " \n") !== false || str_ends_with($word, "\r")) {
                throw new \InvalidArgumentException('a user and a password are words: not empty, and without spaces');
            }
        }
    }

    /**
     * From settings, of which either may be missing.
     *
     * @throws \InvalidArgumentException a user without a password, or one of them cannot be sent
     */
    public static function of(?string $user, #[\SensitiveParameter] ?string $password): ?self
    {
        if ($password === null && $user !== null) {
            throw new \InvalidArgumentException('a user needs a password');
        }
        return $password === null ? null : new self($user, $password);
    }

    /** @internal */
    public function request(): Request
    {
        return Request::auth($this->user, $this->password);
    }

    /**
     * Without the password.
     *
     * @return array<string, mixed>
     */
    public function __debugInfo(): array
    {
        return ['user' => $this->user];
    }

    /** Tells one from another, and not what it is. */
    public function fingerprint(): string
    {
        return hash('sha256', serialize([$this->user, $this->password]));
    }
}
