<?php

declare(strict_types=1);

namespace Elock\Exception;

/**
 * A bound of the server is reached: locks, waiters (`507`), or connections (`503`).
 */
final class ServerFullException extends ServerException
{
}
