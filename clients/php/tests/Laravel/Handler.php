<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Illuminate\Contracts\Debug\ExceptionHandler;

/**
 * What a job throws ends its process, so that the test hears of it.
 */
final class Handler implements ExceptionHandler
{
    public function report(\Throwable $e)
    {
        throw $e;
    }

    public function shouldReport(\Throwable $e)
    {
        return true;
    }

    public function render($request, \Throwable $e)
    {
        throw $e;
    }

    public function renderForConsole($output, \Throwable $e)
    {
        throw $e;
    }
}
