<?php

declare(strict_types=1);

namespace Elock\Exception;

/**
 * Others hold the lock, to the end of the wait (`409`); or waiting for it would be a deadlock.
 */
class RefusedException extends ElockException
{
}
