<?php

declare(strict_types=1);

namespace Elock\Exception;

use Elock\Naming;

/**
 * Waiting for the lock would have been a deadlock (`423`). Nothing was taken away from anyone: whoever is told should
 * release what it holds, and may start over.
 */
final class DeadlockException extends RefusedException
{
    /**
     * Who waits for whom, from the one who asked on: each session, by its number, waits for the key that the next one
     * holds, and the last for one that the first holds. Keys as the application calls them. Of a circle of more than
     * 32 steps, the server tells the first and the last 16.
     *
     * @return list<array{session: int, key: string}>
     */
    public function circle(Naming $naming = Naming::Encoded): array
    {
        $steps = [];
        preg_match_all('/#(\d+) => (\S+) =/', $this->getMessage(), $found, PREG_SET_ORDER);
        foreach ($found as [, $session, $key]) {
            $steps[] = ['session' => (int)$session, 'key' => $naming->name($key)];
        }
        return $steps;
    }
}
