<?php

declare(strict_types=1);

namespace Elock\Tests\Laravel;

use Elock\Tests\Support\Server;
use Elock\Tests\Support\Worker;

/**
 * Another process of the application: it runs the lines of PHP that a test gives it, one after the other, with the
 * variables of those before. `$locks` is a lock provider; `$app` the application, where one was asked for.
 */
final class Process
{
    private readonly Worker $worker;

    /** @param array<string, mixed> $settings of {@see App}; none: only `$locks` */
    public function __construct(Server $server, array $settings = [], ?float $grace = null)
    {
        $arguments = [$server->tcp(), (string)json_encode($settings), (string)json_encode($grace)];
        $this->worker = new Worker(__DIR__ . '/run_lines.php', $arguments);
    }

    /** What the line returns. */
    public function run(string $php): mixed
    {
        $this->start($php);
        return $this->result();
    }

    /** Does not wait for its end. */
    public function start(string $php): void
    {
        $this->worker->tell((string)json_encode($php));
    }

    /** What the line that was started returns. */
    public function result(): mixed
    {
        $answer = $this->answer();
        if (array_key_exists('thrown', $answer)) {
            throw new \RuntimeException("{$answer['thrown']}: {$answer['message']}");
        }
        return $answer['result'];
    }

    /**
     * What the line threw: `thrown`, its class, and `message`.
     *
     * @return array<string, mixed>
     */
    public function answer(): array
    {
        return (array)json_decode($this->line(), true, flags: JSON_THROW_ON_ERROR);
    }

    /** A line that the application itself has said. */
    public function line(): string
    {
        return $this->worker->hear() ?? throw new \RuntimeException('the process has ended');
    }

    /** A line that the application itself waits for. */
    public function say(string $line): void
    {
        $this->worker->tell($line);
    }

    public function signal(int $signal): void
    {
        $this->worker->signal($signal);
    }

    /** Comes back when it has ended. */
    public function kill(): void
    {
        $this->worker->kill();
    }

    /** It ends by itself, as at the end of a script. */
    public function finish(): void
    {
        $this->worker->finish();
    }
}
