<?php

declare(strict_types=1);

namespace Elock\Exception;

/**
 * Whatever this package throws of its own. What an answer is thrown as is in {@see \Elock\Answer::exception()}.
 */
abstract class ElockException extends \RuntimeException
{
}
