<?php

declare(strict_types=1);

namespace Elock\Exception;

/**
 * The server does not take this request as it is: a number out of its range (`400`), or too long (`413`).
 */
final class InvalidRequestException extends ElockException
{
}
