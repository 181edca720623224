<?php

/**
 * What blocks of README.md call.
 */

declare(strict_types=1);

function makeReport(int ...$tokens): string
{
    return 'made';
}

function import(): void
{
}

function sendMails(): void
{
}
