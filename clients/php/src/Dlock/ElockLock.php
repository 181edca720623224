<?php

declare(strict_types=1);

namespace Elock\Dlock;

use Dlock\Lock;
use Elock\Exception\ElockException;
use Elock\Exception\LostException;
use Elock\Exception\RefusedException;

/**
 * dlock's lock, but for the waiting: in the server's queue, first come, first served, instead of asking again each
 * second.
 */
final class ElockLock extends Lock
{
    private ?RefusedException $refusal = null;

    /**
     * @param string $id which lock
     * @param array<string, mixed> $options dlock's
     */
    public function __construct(private readonly ElockDatastore $store, $id = 'unnamed', array $options = [])
    {
        parent::__construct($store, $id, $options);
    }

    /**
     * @param int|float $block how long to wait, in seconds; 0: not at all
     * @return bool whether it was taken; if not, {@see refusal()} tells why
     * @throws ElockException the server could not be asked
     */
    public function acquire($block = 0): bool
    {
        $this->refusal = null;
        try {
            $this->store->waitForLock($this->key(), (float)$block);
            return true;
        } catch (RefusedException $refusal) {
            $this->refusal = $refusal;
            return false;
        }
    }

    /** Why `acquire()` has last returned false: for a deadlock, by an exception that names the circle. */
    public function refusal(): ?RefusedException
    {
        return $this->refusal;
    }

    /**
     * The fencing token, and so the question whether the lock is still held.
     *
     * @throws LostException it is not
     */
    public function token(): int
    {
        return $this->store->heldLock($this->key())->token();
    }

    private function key(): string
    {
        /** @var string $prefix */
        $prefix = $this->getOpt('ds_key_prefix');
        return "$prefix:{$this->getId()}";
    }
}
