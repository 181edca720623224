<?php

declare(strict_types=1);

namespace Elock\Exception;

/**
 * The server is stopping, and grants nothing any more (`503`).
 */
class ServerStoppingException extends ServerException
{
}
