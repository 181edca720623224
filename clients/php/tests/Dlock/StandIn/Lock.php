<?php

declare(strict_types=1);

namespace Dlock;

/**
 * As far as this package stands on it, for tests where dlock is not installed.
 */
class Lock
{
    private array $options;

    public function __construct(
        private Datastore\DatastoreInterface $datastore,
        private $id = 'unnamed',
        array $options = [],
    ) {
        $this->options = $options + ['ds_key_prefix' => 'dlock'];
    }

    public function getId()
    {
        return $this->id;
    }

    public function getOpt($name)
    {
        return $this->options[$name] ?? null;
    }

    public function acquire($block = 0)
    {
        return $this->datastore->acquireLock("{$this->getOpt('ds_key_prefix')}:$this->id");
    }

    public function release()
    {
        return $this->datastore->releaseLock("{$this->getOpt('ds_key_prefix')}:$this->id");
    }

    public function locked(\Closure $task, $block = 0)
    {
        if (!$this->acquire($block)) {
            throw new \RuntimeException('Could not acquire lock');
        }
        try {
            return $task();
        } finally {
            $this->release();
        }
    }
}
