<?php

/**
 * Says its port, and then answers every request by the line that is its argument, but for `name`. For what a real
 * server says only where it is old, full or broken.
 */

declare(strict_types=1);

$server = stream_socket_server('tcp://127.0.0.1:0');
echo substr((string)strrchr((string)stream_socket_get_name($server, false), ':'), 1), "\n";
while (($connection = @stream_socket_accept($server, 60.0)) !== false) {
    while (($line = fgets($connection)) !== false) {
        fwrite($connection, str_starts_with($line, 'name ') ? "200 OK\r\n" : "$argv[1]\r\n");
    }
}
