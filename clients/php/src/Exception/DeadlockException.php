<?php

declare(strict_types=1);

namespace Elock\Exception;

use Elock\Answer;
use Elock\Naming;
use Elock\Word;

/**
 * Waiting for the lock would have been a deadlock (`423`). Nothing was taken away from anyone: whoever is told should
 * release what it holds, and may start over.
 */
final class DeadlockException extends RefusedException
{
    /** What the server said. */
    private string $said = '';
    /** @var list<Word> */
    private array $known = [];

    /**
     * @param list<Word> $known the key that was asked for, and those that this one holds
     * @internal
     */
    public static function because(string $message, Answer $answer, array $known): self
    {
        $deadlock = new self($message, $answer->code);
        $deadlock->said = $answer->text;
        $deadlock->known = $known;
        if ($answer->request?->key !== null) {
            $deadlock->known[] = $answer->request->key;
        }
        return $deadlock;
    }

    /**
     * Who waits for whom, from the one who asked on: each session, by its number, waits for the key that the next one
     * holds, and the last for one that the first holds. Keys as the application calls them, as far as can be known: of
     * a key that was hashed, its word, unless it is the one that was asked for, or one that this connection holds. Of
     * a circle of more than 32 steps, the server tells the first and the last 16.
     *
     * @return list<array{session: int, key: string}>
     */
    public function circle(Naming $naming = Naming::Encoded): array
    {
        $steps = [];
        preg_match_all('/#(\d+) => (\S+) =/', $this->said, $found, PREG_SET_ORDER);
        foreach ($found as [, $session, $key]) {
            $steps[] = ['session' => (int)$session, 'key' => $this->known($key) ?? $naming->name($key)];
        }
        return $steps;
    }

    private function known(string $shown): ?string
    {
        foreach ($this->known as $word) {
            // A long one is shown by its beginning.
            $isCut = str_ends_with($shown, '...') && str_starts_with($word->bytes, substr($shown, 0, -3));
            if ($word->bytes === $shown || $isCut) {
                return $word->name;
            }
        }
        return null;
    }
}
