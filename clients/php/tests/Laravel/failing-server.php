<?php

/**
 * A server that says its port, and to all that it is asked that it failed.
 */

declare(strict_types=1);

$server = stream_socket_server('tcp://127.0.0.1:0');
fwrite(STDOUT, substr(strrchr(stream_socket_get_name($server, false), ':'), 1) . "\n");
while ($client = stream_socket_accept($server, 60)) {
    while (is_string($line = fgets($client))) {
        $isGreeting = preg_match('/^(name|conn_id)\b/', $line);
        fwrite($client, $isGreeting ? "200 1-0\r\n" : "500 Not stored: no space left on device\r\n");
    }
}
