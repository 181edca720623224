<?php

/**
 * A server that grants every lock to everyone: what stands on locks must fail with it. Says its port.
 */

declare(strict_types=1);

$server = stream_socket_server('tcp://127.0.0.1:0');
echo substr(strrchr(stream_socket_get_name($server, false), ':'), 1), "\n";
$clients = [];
for ($token = 0; true;) {
    $read = [STDIN, $server, ...array_column($clients, 0)];
    $none = null;
    stream_select($read, $none, $none, null);
    foreach ($read as $stream) {
        if ($stream === STDIN) {
            exit;
        }
        if ($stream === $server) {
            $client = stream_socket_accept($server);
            $clients[(int)$client] = [$client, ++$token];
            continue;
        }
        $line = fgets($stream);
        if ($line === false || rtrim($line) === 'quit') {
            unset($clients[(int)$stream]);
            fclose($stream);
            continue;
        }
        fwrite($stream, match (strtok(rtrim($line), ' ')) {
            'token' => "200 {$clients[(int)$stream][1]}\r\n",
            'watch' => "200 free\r\n",
            'locks' => "200 LOCKS\r\nEND\r\n",
            default => "200 OK\r\n",
        });
    }
}
