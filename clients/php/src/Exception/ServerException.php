<?php

declare(strict_types=1);

namespace Elock\Exception;

/**
 * The server failed at something, such as storing it (`500`), or its answer is none of the protocol's. Whether the
 * request was done is not known.
 */
class ServerException extends ElockException
{
}
