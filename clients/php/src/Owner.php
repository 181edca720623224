<?php

declare(strict_types=1);

namespace Elock;

/**
 * Takes locks for an owner: a word that the application chose. Such a lock belongs to the word and to no connection;
 * any process that knows the word can renew and release it. Give it a lease, or it stays until it is released.
 *
 * Where a lock is asked for and the connection breaks, it may have been granted all the same. What surely was is told
 * as a grant; where that cannot be known, there is a {@see Exception\ConnectionException}, and {@see held()} tells
 * whether the word has the lock, by whatever grant. So use words that no other process has at the same time.
 */
final class Owner extends Holder
{
    /** The word, as the application calls it. */
    public function word(): string
    {
        return $this->owner->name ?? '';
    }
}
