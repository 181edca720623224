<?php

/**
 * Without this package: php plain_sockets.php FILE < text
 *
 * One line out, one line in; keys are words without spaces.
 */

declare(strict_types=1);

$ask = function (string $request, float $wait = 0.0) use (&$server): string {
    $ends = hrtime(true) + ($wait + 5.0) * 1e9;             // The wait, and some time for the answer.
    fwrite($server, "$request\n");
    for ($answer = ''; !str_ends_with($answer, "\n"); $answer .= $bytes) {
        [$read, $none, $left] = [[$server], null, (int)(($ends - hrtime(true)) / 1e3)];
        $bytes = $left > 0 && stream_select($read, $none, $none, 0, $left) ? fread($server, 4096) : '';
        if ($bytes === '' || $bytes === false) {
            fclose($server);                                // A late answer would be read as that to another request.
            throw new RuntimeException("no answer to \"$request\": whether it was done is not known");
        }
    }
    return str_starts_with($answer, '200 ') ? rtrim($answer) : throw new RuntimeException("\"$request\": $answer");
};
['host' => $host, 'port' => $port] = parse_url(getenv('ELOCK_SERVER') ?: 'tcp://127.0.0.1:11400');
$server = fsockopen($host, $port, $code, $problem, 2.0) ?: throw new RuntimeException("no server: $problem");
$ask('lock report 60', 60.0);                               // 409: others have it; 423: a deadlock; 503: full.
$token = $ask('token report');                              // The fencing token.
echo "working\n";
$text = stream_get_contents(STDIN);
$ask('token report') === $token || throw new RuntimeException('others have had the lock since');
file_put_contents($argv[1], $text);
$ask('unlock report');                                      // 403: it was lost just then.
echo "done\n";
