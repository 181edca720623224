<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

/**
 * What a scenario's world is to be, where it is not the ordinary one.
 */
#[\Attribute(\Attribute::TARGET_METHOD)]
final class Play
{
    /**
     * @param bool $hasStore whether the server keeps its locks over a restart
     * @param float $timeout how long an answer may take, in seconds; those of a server that does not stand still come
     *     well within
     */
    public function __construct(public readonly bool $hasStore = false, public readonly float $timeout = 20.0)
    {
    }
}
