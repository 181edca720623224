<?php

declare(strict_types=1);

namespace Elock;

use Elock\Exception\ConnectionException;
use Elock\Exception\ElockException;
use Elock\Exception\TimeoutException;

/**
 * One socket: requests out, their answers in.
 *
 * Invariant: after anything unexpected (a timeout, an exception of a signal handler, an answer that is none) the socket
 * is closed and never used again, so that no answer is ever read as that to another request.
 *
 * @internal
 */
final class Connection
{
    /** Signal handlers run at the latest after so many seconds, also where a signal came just before the wait. */
    private const SLICE = 0.25;
    /** More than the server's longest line of a list. */
    private const LONGEST_LINE = 16 * 1024 * 1024;
    private const CHUNK = 65536;

    /** @var resource|null */
    private $stream;
    private string $unread = '';
    /** @var list<Request> requests that are not answered yet */
    private array $open = [];
    /** @var list<Answer> answers to those before them, of the same packet */
    private array $answers = [];
    /** The process that it belongs to: a socket that is shared over a fork answers each with the other's answers. */
    private readonly int $pid;

    /**
     * @throws ConnectionException nobody is there, in time
     */
    public function __construct(private readonly Address $address, Options $options, Deadline $deadline)
    {
        $this->pid = self::currentPid();
        $context = stream_context_create(['socket' => ['tcp_nodelay' => true], 'ssl' => $options->tls]);
        $timeout = max(0.001, min($options->connectTimeout, $deadline->left()));
        $problem = '';
        set_error_handler(static function (int $level, string $message) use (&$problem): bool {
            $problem = $message;
            return true;
        });
        try {
            $stream = stream_socket_client($address->remote, $code, $error, $timeout, context: $context);
        } finally {
            restore_error_handler();
        }
        if ($stream === false) {
            throw new ConnectionException("no server at $address: " . ($error !== '' ? $error : $problem));
        }
        stream_set_blocking($stream, false);
        $this->stream = $stream;
    }

    /** Whether it can be used, by this process. */
    public function isOpen(): bool
    {
        return $this->stream !== null && $this->pid === self::currentPid();
    }

    /** Whether a request is under way: who asks now is a signal handler. */
    public function isBusy(): bool
    {
        return $this->open !== [];
    }

    /**
     * Sends these requests in one packet and reads their answers.
     *
     * @param list<Request> $requests
     * @return list<Answer> one for each
     * @throws ConnectionException it broke, or no answer came in time; then it is closed
     */
    public function exchange(array $requests, Deadline $deadline): array
    {
        try {
            $this->send($requests, $deadline);
            $this->readAnswers($deadline);
            if ($this->unread !== '') {
                throw new ConnectionException("$this->address sent more than was asked for");
            }
            return $this->answers;
        } catch (ElockException $broken) {
            $this->close();
            throw $broken;
        }
    }

    /**
     * Takes back what was sent and not answered, after an exception that was not this class's own: a request that
     * waits leaves its queue. The connection is closed.
     *
     * @return list<Answer> what was answered by then, the first requests first: a lock that was granted at that very
     *     moment is among it, and can be given back
     */
    public function withdraw(Deadline $deadline): array
    {
        try {
            if ($this->stream !== null && !$this->address->isEncrypted()) {
                // For the server, the end of what it is sent is a disconnect; it answers what it had done.
                stream_socket_shutdown($this->stream, STREAM_SHUT_WR);
                $this->readAnswers($deadline);
            }
        } catch (ElockException) {
            // What was not answered is not told.
        } finally {
            $this->close();
        }
        return $this->answers;
    }

    /** @return list<Answer> what was answered of the last packet, before it broke */
    public function answered(): array
    {
        return $this->answers;
    }

    /**
     * Says goodbye, and lets the server close first: whoever closes first keeps the port for a minute.
     *
     * @param list<Request> $requests what to send before that
     */
    public function quit(array $requests, Deadline $deadline): void
    {
        try {
            $this->exchange([...$requests, Request::quit()], $deadline);
            while ($this->address->isTcp()) {
                $this->receive($deadline);
            }
        } catch (ElockException) {
            // The end that it waits for, or a server that is gone already.
        } finally {
            $this->close();
        }
    }

    /** Without a word. In another process than the one that opened it, this touches nothing of the other's. */
    public function close(): void
    {
        if ($this->stream !== null) {
            fclose($this->stream);
            $this->stream = null;
        }
        $this->unread = '';
        $this->open = [];
    }

    /** @param list<Request> $requests */
    private function send(array $requests, Deadline $deadline): void
    {
        $unsent = '';
        foreach ($requests as $request) {
            $unsent .= $request->line . "\n";
        }
        $this->open = $requests;
        $this->answers = [];
        while (true) {
            $sent = @fwrite($this->stream(), $unsent);
            if ($sent === false) {
                throw new ConnectionException("the connection to $this->address is gone");
            }
            if ($sent === strlen($unsent)) {
                return;
            }
            $unsent = substr($unsent, $sent);
            $this->await(true, $deadline);
        }
    }

    private function readAnswers(Deadline $deadline): void
    {
        while ($this->open !== []) {
            $answer = $this->answer($deadline);
            $this->answers[] = $answer;
            if ($answer->code === Answer::STOPPING) {
                // It is the last that comes from there, whatever else was asked.
                throw $answer->exception();
            }
        }
    }

    private function answer(Deadline $deadline): Answer
    {
        $line = $this->line($deadline);
        if (!preg_match('/^(\d{3}) (.+)$/s', $line, $found)) {
            throw new ConnectionException("$this->address is no eLock server: it said " . json_encode(
                substr($line, 0, 100),
                JSON_INVALID_UTF8_SUBSTITUTE,
            ));
        }
        $code = (int)$found[1];
        $lines = [];
        if ($this->open[0]->isList && $code === Answer::OK) {
            while (($next = $this->line($deadline)) !== 'END') {
                $lines[] = $next;
            }
        }
        array_shift($this->open);
        return new Answer($code, $found[2], $lines);
    }

    private function line(Deadline $deadline): string
    {
        while (($end = strpos($this->unread, "\n")) === false) {
            if (strlen($this->unread) > self::LONGEST_LINE) {
                throw new ConnectionException("$this->address is no eLock server: its line has no end");
            }
            $this->unread .= $this->receive($deadline);
        }
        $line = rtrim(substr($this->unread, 0, $end), "\r");
        $this->unread = substr($this->unread, $end + 1);
        return $line;
    }

    /** Some bytes, but never none. */
    private function receive(Deadline $deadline): string
    {
        // What TLS has read ahead, the system does not tell of.
        for ($mayBeThere = $this->address->isEncrypted();; $mayBeThere = false) {
            if (!$mayBeThere) {
                $this->await(false, $deadline);
            }
            $bytes = @fread($this->stream(), self::CHUNK);
            if ($bytes !== false && $bytes !== '') {
                return $bytes;
            }
            if ($bytes === false || feof($this->stream())) {
                throw new ConnectionException("the connection to $this->address is gone");
            }
        }
    }

    /** In slices, so that signal handlers run meanwhile. */
    private function await(bool $toSend, Deadline $deadline): void
    {
        do {
            $left = $deadline->left();
            if ($left === 0.0) {
                throw new TimeoutException("no answer from $this->address in time");
            }
            $slice = (int)ceil(min($left, self::SLICE) * 1e6);
            $read = $toSend ? [] : [$this->stream()];
            $write = $toSend ? [$this->stream()] : [];
            $except = [];
            $ready = @stream_select($read, $write, $except, 0, $slice);
            if (function_exists('pcntl_signal_dispatch')) {
                pcntl_signal_dispatch();
            }
        } while ($ready === 0 || $ready === false);
    }

    /** @return resource */
    private function stream()
    {
        // A signal handler may have closed it meanwhile.
        return $this->stream ?? throw new ConnectionException("the connection to $this->address is closed");
    }

    private static function currentPid(): int
    {
        return (int)getmypid();
    }
}
