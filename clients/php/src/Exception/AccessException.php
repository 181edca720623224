<?php

declare(strict_types=1);

namespace Elock\Exception;

/**
 * The server does not know who this is, or the password is another one (`401`); or this user may not do that, or not
 * with this key (`403 not_allowed`). Nothing was done, and another try would be in vain.
 */
final class AccessException extends ElockException
{
}
