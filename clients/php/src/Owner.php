<?php

declare(strict_types=1);

namespace Elock;

/**
 * Takes locks for an owner: a word that the application chose. Such a lock belongs to the word and to no connection;
 * any process that knows the word can renew and release it. Give it a lease, or it stays until it is released.
 *
 * Where a lock is asked for and the connection breaks, it may have been granted all the same. What surely was is told
 * as a grant, and the first lock of a word that the client made itself always is known. Where it is not, there is a
 * {@see Exception\ConnectionException}, and {@see held()} tells whether the word has the lock, by whatever grant. So
 * use words that no other process has at the same time.
 */
final class Owner extends Holder
{
    /**
     * @param bool $isNew whether the word was made here, and nobody else has it yet
     * @internal
     */
    public function __construct(Session $session, Word $owner, private bool $isNew)
    {
        parent::__construct($session, $owner);
    }

    /** The word, as the application calls it; whoever is told it may use it. */
    public function word(): string
    {
        $this->isNew = false;
        return $this->owner->name ?? '';
    }

    protected function acquire(Acquisition $wanted): array
    {
        $answers = parent::acquire($this->isNew ? $wanted->byNewOwner() : $wanted);
        $this->isNew = $this->isNew && !$answers[0]->isOk();
        return $answers;
    }
}
