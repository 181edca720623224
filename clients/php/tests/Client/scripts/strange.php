<?php

/**
 * A server that is no elockd, or an odd one. Usage: strange.php KIND; says its port.
 */

declare(strict_types=1);

$kind = $argv[1];
$listener = stream_socket_server('tcp://127.0.0.1:0') ?: throw new \RuntimeException('no port');
echo substr((string)strrchr((string)stream_socket_get_name($listener, false), ':'), 1), "\n";
while ($client = stream_socket_accept($listener, -1.0)) {
    if ($kind === 'endless line' || $kind === 'endless list') {
        fwrite($client, $kind === 'endless list' ? "200 OK\r\n200 INFO\r\n" : '');
        $piece = $kind === 'endless list' ? str_repeat("x 1\r\n", 100) : str_repeat('x', 65536);
        while (@fwrite($client, $piece)) {
        }
        continue;
    }
    if ($kind === 'closes') {
        fclose($client);
        continue;
    }
    if ($kind === 'greets') {
        fwrite($client, "220 mail.example.org ready\r\n");
    }
    while (($line = fgets($client)) !== false) {
        $answer = match ($kind) {
            'http' => "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
            'silent' => '',
            'garbage' => random_bytes(20) . "\n",
            'empty' => "\n",
            'greets' => "500 unrecognized command\r\n",
            'erlang' => preg_match('/^(lock \S+( \d+)?|unlock \S+)$/', trim($line))
                ? "200 Acquired\r\n" : "400 Unknown command\r\n",
            'over at once' => str_starts_with($line, 'token') ? "403 expired\r\n" : "200 OK\r\n",
            'nodejs' => preg_match('/^(lock|unlock)/', $line) ? "200 Lock acquired\n" : "500 Internal server error\n",
            'tls' => "400 This port speaks TLS only\r\n",
            'grants more' => str_repeat("200 1\r\n", 20),
            default => throw new \RuntimeException("what is $kind?"),
        };
        @fwrite($client, $answer);
        $kind === 'over at once' && print($line);
    }
}
