<?php

declare(strict_types=1);

namespace Elock\Exception;

/**
 * There is no server, or the connection to it broke. Whether the last request was done is not known.
 */
class ConnectionException extends ElockException
{
}
