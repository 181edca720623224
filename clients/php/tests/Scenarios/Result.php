<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios;

/**
 * What came of a scenario.
 */
final class Result
{
    /**
     * @param array<string, string> $deviations what was other than the scenario has it, by its step
     * @param string|null $notOffered what the framework would have needed for it
     * @param string|null $broken why it came to no end
     */
    public function __construct(
        public readonly array $deviations = [],
        public readonly ?string $notOffered = null,
        public readonly ?string $broken = null,
    ) {
    }

    public function isAsExpected(): bool
    {
        return $this->deviations === [] && $this->notOffered === null && $this->broken === null;
    }

    public function text(): string
    {
        $flags = JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_PRETTY_PRINT;
        return $this->broken ?? $this->notOffered ?? (string)json_encode($this->deviations, $flags);
    }
}
