<?php

declare(strict_types=1);

namespace Elock\Exception;

/**
 * The server did not answer in time. The connection is closed, so that a late answer is nobody's.
 */
final class TimeoutException extends ConnectionException
{
}
