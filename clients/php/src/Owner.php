<?php

declare(strict_types=1);

namespace Elock;

/**
 * Takes locks for an owner: a word that the application chose. Such a lock belongs to the word and to no connection;
 * any process that knows the word can renew and release it. Give it a lease, or it stays until it is released.
 */
final class Owner extends Holder
{
    /** The word, as the application calls it. */
    public function word(): string
    {
        return $this->owner->name ?? '';
    }
}
