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
    /** Signal handlers run at the latest after so many microseconds, also where a signal came just before the wait. */
    private const SLICE = 250_000;
    /** How often to look where there is no waiting for a socket, in microseconds. */
    private const POLL = 1000;
    /** A connection that rested for so many nanoseconds may be gone: it is looked at before it is used. */
    private const RESTED = 1_000_000_000;
    /** How long the answers to what was taken back may take, in seconds. */
    private const GOODBYE = 1.0;
    /** More than the server's longest line of a list. */
    private const LONGEST_LINE = 16 * 1024 * 1024;
    private const CHUNK = 65536;

    /** @var list<resource> streams of a parent process that must not be closed here */
    private static array $ofParents = [];

    /** @var resource|null */
    private $stream;
    private readonly bool $isEncrypted;
    private string $unread = '';
    private int $lastUsed;

    /**
     * @throws ConnectionException nobody is there, in time
     */
    public function __construct(private readonly Address $address, Options $options, Deadline $deadline)
    {
        $context = stream_context_create(['socket' => ['tcp_nodelay' => true], 'ssl' => $options->tls]);
        $timeout = max(0.001, min($options->connectTimeout, $deadline->left()));
        $problems = [];
        set_error_handler(static function (int $level, string $message) use (&$problems): bool {
            $problems[] = preg_replace('/^stream_socket_client\(\): /', '', $message);
            return true;
        });
        try {
            $stream = stream_socket_client($address->remote, $code, $error, $timeout, context: $context);
        } finally {
            restore_error_handler();
        }
        if ($stream === false) {
            // Of TLS, the error says nothing, and the first of the warnings why.
            $problem = $error !== '' ? $error : implode('; ', $problems);
            throw new ConnectionException("no server at $address: $problem");
        }
        stream_set_blocking($stream, false);
        $this->stream = $stream;
        $this->isEncrypted = $address->isEncrypted();
        $this->isEncrypted && error_clear_last();
        $this->lastUsed = hrtime(true);
    }

    /** Whether it can be used. One that rested may be gone, which is better known before anything is asked. */
    public function isOpen(): bool
    {
        if ($this->stream !== null && hrtime(true) - $this->lastUsed > self::RESTED && $this->isGone()) {
            $this->close();
        }
        return $this->stream !== null;
    }

    public function isClosed(): bool
    {
        return $this->stream === null;
    }

    /**
     * Sends these requests in one packet and reads their answers into it.
     *
     * @throws ConnectionException it broke, or no answer came in time; then it is closed
     * @throws ElockException the server is stopping; then it is closed
     */
    public function run(Exchange $asked, Deadline $deadline): void
    {
        try {
            $this->send($asked, $deadline);
            $this->readAnswers($asked, $deadline);
            if ($this->unread !== '') {
                throw new ConnectionException("$this->address sent more than was asked for");
            }
            $this->lastUsed = hrtime(true);
        } catch (\Throwable $problem) {
            $problem instanceof ElockException && !Signals::threw($problem) ? $this->close() : $this->withdraw($asked);
            throw $problem;
        }
    }

    /**
     * Says goodbye, and lets the server close first: whoever closes first keeps the port for a minute. Where that can
     * be had without waiting for the server, it is.
     *
     * @param list<Request> $requests what to send before that
     * @return bool whether all of it was done
     */
    public function quit(array $requests, Deadline $deadline): bool
    {
        if ($requests === [] && ($this->stream === null || $this->keepsNoPort())) {
            $this->close();
            return true;
        }
        $asked = new Exchange([...$requests, Request::quit()]);
        try {
            $this->run($asked, $deadline);
            while ($this->address->isTcp()) {
                $this->receive($deadline);
            }
        } catch (ElockException) {
            // The end that it waits for, or a server that is gone already.
        } finally {
            $this->close();
        }
        return count($asked->answers) === count($asked->requests);
    }

    /** Without a word. */
    public function close(): void
    {
        if ($this->stream !== null) {
            fclose($this->stream);
            $this->stream = null;
        }
        $this->unread = '';
    }

    /**
     * In a forked process: touches nothing of the parent's. To close a stream of TLS says goodbye on the socket that
     * both have, so that is put off to the end of this process.
     */
    public function leaveToParent(): void
    {
        if ($this->stream !== null && $this->isEncrypted) {
            self::$ofParents[] = $this->stream;
            $this->stream = null;
        }
        $this->close();
    }

    /**
     * Takes back what was not answered, after an exception that was not this class's own: a request that waits leaves
     * its queue. What was answered by then, such as a lock that was granted at that very moment, is read.
     */
    private function withdraw(Exchange $asked): void
    {
        try {
            if ($this->stream !== null && !$this->isEncrypted && $asked->isSent) {
                // For the server, the end of what it is sent is a disconnect; it answers what it had done.
                stream_socket_shutdown($this->stream, STREAM_SHUT_WR);
                $this->readAnswers($asked, Deadline::in(self::GOODBYE));
            }
        } catch (ElockException) {
            // What was not answered is not told.
        } finally {
            $this->close();
        }
    }

    private function send(Exchange $asked, Deadline $deadline): void
    {
        $unsent = '';
        foreach ($asked->all() as $request) {
            $unsent .= $request->line . "\n";
        }
        $asked->isSent = $unsent !== '';
        while ($unsent !== '') {
            $sent = @fwrite($this->stream ?? $this->stream(), $unsent);
            if ($sent === strlen($unsent)) {
                return;
            }
            if ($sent === false) {
                // The server may have said why.
                $this->unread .= (string)@fread($this->stream(), self::CHUNK);
                str_contains($this->unread, "\n") && $this->readAnswers($asked, $deadline);
                throw $this->gone();
            }
            $unsent = $sent === 0 ? $unsent : substr($unsent, $sent);
            // A server rests while its answers are not read.
            $this->await(true, $deadline) && $this->unread .= $this->received();
        }
    }

    private function readAnswers(Exchange $asked, Deadline $deadline): void
    {
        $requests = $asked->all();
        for ($position = count($asked->answers); $position < count($requests); $position++) {
            $request = $requests[$position];
            $line = $this->line($deadline);
            $code = substr($line, 0, 3);
            if (strlen($line) < 5 || $line[3] !== ' ' || !ctype_digit($code)) {
                throw new ConnectionException("$this->address is no eLock server: it said " . json_encode(
                    substr($line, 0, 100),
                    JSON_INVALID_UTF8_SUBSTITUTE,
                ));
            }
            $lines = [];
            if ($request->isList && $code === '200') {
                while (($next = $this->line($deadline)) !== 'END') {
                    $lines[] = $next;
                }
            }
            $asked->answers[] = $answer = new Answer((int)$code, substr($line, 4), $lines, $request);
            if ($answer->code === Answer::STOPPING) {
                // It is the last that comes from there, whatever else was asked.
                throw $answer->exception();
            }
        }
    }

    private function line(Deadline $deadline): string
    {
        $looked = 0;
        while (($end = strpos($this->unread, "\n", $looked)) === false) {
            $looked = strlen($this->unread);
            if ($looked > self::LONGEST_LINE) {
                throw new ConnectionException("$this->address is no eLock server: its line has no end");
            }
            $this->unread .= $this->receive($deadline);
        }
        $line = substr($this->unread, 0, $end);
        $this->unread = substr($this->unread, $end + 1);
        return rtrim($line, "\r");
    }

    /** Some bytes, but never none. */
    private function receive(Deadline $deadline): string
    {
        // What TLS has read ahead, the system does not tell of.
        $bytes = $this->isEncrypted ? $this->received() : '';
        if ($bytes !== '' && $deadline->isOver()) {
            // A server that never stops talking.
            throw $this->late();
        }
        while ($bytes === '') {
            $this->await(false, $deadline);
            $bytes = $this->received();
        }
        return $bytes;
    }

    /** What is there, which may be nothing. */
    private function received(): string
    {
        $bytes = @fread($this->stream ?? $this->stream(), self::CHUNK);
        if ($bytes === false || ($bytes === '' && feof($this->stream()))) {
            throw $this->gone();
        }
        return $bytes;
    }

    /**
     * In slices, so that signal handlers run meanwhile.
     *
     * @return bool whether there may be something to read
     */
    private function await(bool $toSend, Deadline $deadline): bool
    {
        do {
            $left = $deadline->left();
            if ($left === 0.0) {
                throw $this->late();
            }
            $read = [$this->stream ?? $this->stream()];
            $write = $toSend ? $read : null;
            $except = null;
            $slice = $left > self::SLICE / 1e6 ? self::SLICE : (int)ceil($left * 1e6);
            $ready = @stream_select($read, $write, $except, 0, $slice);
            Signals::dispatch();
            if ($ready === false) {
                // A signal; or a descriptor above 1,023, which PHP cannot wait for: so this looks again and again.
                usleep(self::POLL);
            }
        } while ($ready === 0);
        return $read !== [];
    }

    /** Whether the end of the connection, from this side, leaves no port in use. All answers have been read. */
    private function keepsNoPort(): bool
    {
        if (!$this->address->isTcp() || $this->isEncrypted || !function_exists('socket_import_stream')) {
            return !$this->address->isTcp();
        }
        $socket = @socket_import_stream($this->stream());
        return $socket instanceof \Socket
            && @socket_set_option($socket, SOL_SOCKET, SO_LINGER, ['l_onoff' => 1, 'l_linger' => 0]);
    }

    /** Whether it has ended, or says what nobody asked for. (TLS has things of its own to say.) */
    private function isGone(): bool
    {
        $read = [$this->stream()];
        $none = null;
        try {
            return @stream_select($read, $none, $none, 0) === 1 && $this->received() !== '';
        } catch (ConnectionException) {
            return true;
        }
    }

    /** By TLS a server may have said why, such as that it wants a certificate; PHP tells that in a warning. */
    private function gone(): ConnectionException
    {
        $warning = $this->isEncrypted ? error_get_last()['message'] ?? '' : '';
        $why = preg_match('/^f(?:read|write)\(\): (SSL.*)/s', $warning, $found) === 1 ? ": $found[1]" : '';
        return new ConnectionException("the connection to $this->address is gone$why");
    }

    private function late(): TimeoutException
    {
        return new TimeoutException("no answer from $this->address in time");
    }

    /** @return resource */
    private function stream()
    {
        // A signal handler may have closed it meanwhile.
        return $this->stream ?? throw new ConnectionException("the connection to $this->address is closed");
    }
}
