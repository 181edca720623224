<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

/**
 * The framework, or its store, has no such thing.
 */
final class NotOffered extends \LogicException
{
}
