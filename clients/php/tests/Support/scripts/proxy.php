<?php

/**
 * Passes connections on to a server, and breaks them when it is told to. Usage: proxy.php HOST:PORT [CERTIFICATE]; with
 * a certificate it speaks TLS. Says its port, and then answers each line:
 *
 *     cut        ends all connections
 *     lose N     drops the Nth piece that the server says from now on, and ends its connection
 *     doom N     the same, and takes no more connections then
 *     every P    from now on ends a connection at P of a thousand pieces, in either direction, before it is passed on
 *     block      takes no more connections, and ends those that there are
 *     allow      takes them again
 */

declare(strict_types=1);

[, $target] = $argv;
$certificate = $argv[2] ?? null;
$context = stream_context_create($certificate === null ? [] : ['ssl' => ['local_cert' => $certificate]]);
$flags = STREAM_SERVER_BIND | STREAM_SERVER_LISTEN;
$listener = stream_socket_server('tcp://127.0.0.1:0', $code, $error, $flags, $context)
    ?: throw new \RuntimeException($error);
echo substr((string)strrchr((string)stream_socket_get_name($listener, false), ':'), 1), "\n";
/** @var array<int, array{resource, resource}> $pairs each stream, and the other one of it */
$pairs = [];
$answering = [];
/** @var array<int, resource> $halves clients that have said their end, by their server's */
$halves = [];
$lose = $every = 0;
$isBlocked = $isDoomed = false;

$end = static function (int $id) use (&$pairs, &$answering): void {
    foreach ($pairs[$id] ?? [] as $stream) {
        unset($pairs[(int)$stream], $answering[(int)$stream]);
        fclose($stream);
    }
};

while (true) {
    $read = [STDIN, $listener, ...array_column($pairs, 0)];
    $none = null;
    stream_select($read, $none, $none, null);
    foreach ($read as $stream) {
        if ($stream === STDIN) {
            $line = fgets(STDIN);
            if ($line === false) {
                exit(0);
            }
            [$word, $number] = explode(' ', trim($line)) + [1 => '0'];
            $isBlocked = $word === 'block' || ($isBlocked && $word !== 'allow');
            $lose = $word === 'lose' || $word === 'doom' ? (int)$number : $lose;
            $isDoomed = $word === 'doom' || ($isDoomed && $word !== 'allow');
            $every = $word === 'every' ? (int)$number : $every;
            if ($word === 'cut' || $word === 'block') {
                array_map($end, array_keys($pairs));
            }
            echo "ok\n";
        } elseif ($stream === $listener) {
            $client = @stream_socket_accept($listener, 1.0);
            if ($client === false) {
                continue;
            }
            if ($certificate !== null) {
                // Records as long as TLS has them.
                stream_set_chunk_size($client, 65536);
                stream_set_blocking($client, true);
                if (@stream_socket_enable_crypto($client, true, STREAM_CRYPTO_METHOD_TLS_SERVER) !== true) {
                    fclose($client);
                    continue;
                }
            }
            $server = $isBlocked ? false : @stream_socket_client("tcp://$target");
            if ($server === false) {
                fclose($client);
                continue;
            }
            stream_set_blocking($client, false);
            stream_set_blocking($server, false);
            $pairs[(int)$client] = [$client, $server];
            $pairs[(int)$server] = [$server, $client];
            $answering[(int)$server] = true;
        } elseif (isset($pairs[$id = (int)$stream])) {
            $other = $pairs[$id][1];
            do {
                $bytes = @fread($stream, 65536);
                $isLost = $every > 0 && random_int(0, 999) < $every;
                if (isset($answering[$id]) && $lose > 0 && (string)$bytes !== '') {
                    $isLost = --$lose === 0;
                    $isBlocked = $isBlocked || ($isLost && $isDoomed);
                }
                if ($bytes === false || $isLost || ($bytes === '' && feof($stream))) {
                    // Half an end is passed on as such: the client says so, and reads the rest.
                    if (!$isLost && !isset($answering[$id]) && $certificate === null) {
                        stream_socket_shutdown($other, STREAM_SHUT_WR);
                        unset($pairs[$id]);
                        $pairs[(int)$other][1] = $other;
                        $pairs[(int)$other] = [$other, $stream];
                        $halves[(int)$other] = $stream;
                        break;
                    }
                    if (isset($halves[$id])) {
                        fclose($halves[$id]);
                        unset($halves[$id], $pairs[$id], $answering[$id]);
                        fclose($stream);
                        break;
                    }
                    $end($id);
                    break;
                }
                for ($unsent = $bytes; $unsent !== '';) {
                    $sent = @fwrite($other, $unsent);
                    if ($sent === false) {
                        break;
                    }
                    $unsent = substr($unsent, $sent);
                    if ($unsent !== '') {
                        $write = [$other];
                        $nothing = null;
                        stream_select($nothing, $write, $nothing, 1);
                    }
                }
                // What TLS has read ahead, the system does not tell of.
            } while ($certificate !== null && $bytes !== '');
        }
    }
}
