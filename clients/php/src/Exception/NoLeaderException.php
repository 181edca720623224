<?php

declare(strict_types=1);

namespace Elock\Exception;

/**
 * None of several servers leads at this time (`503`). Nothing was done.
 */
final class NoLeaderException extends ServerStoppingException
{
}
