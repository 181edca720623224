<?php

declare(strict_types=1);

namespace Elock\Exception;

/**
 * The lock is not held, or no longer (`403`): its lease or the session's grace period has ended, it was broken, or it
 * never was. What is done from here on is done beside the next holder.
 */
final class LostException extends ElockException
{
}
