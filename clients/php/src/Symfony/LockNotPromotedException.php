<?php

declare(strict_types=1);

namespace Elock\Symfony;

use Symfony\Component\Lock\Exception\LockConflictedException;

/**
 * The lock was not promoted, since there are other readers. The key still has it, as one of them.
 */
final class LockNotPromotedException extends LockConflictedException
{
}
