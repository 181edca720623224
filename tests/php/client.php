<?php
// The traffic of the PHP eLock clients (ELockClient and ELockClientEx), as they send and parse it:
// keys and values as SHA-1, always a timeout, LF line ends, one fgets and trim per line, answers
// split at the first space, `stats` into declared properties. Anything unexpected, deprecations
// included, ends the script with an error. Usage: php client.php HOST PORT

error_reporting(E_ALL);
set_error_handler(function (int $level, string $message): bool {
    throw new ErrorException($message, 0, $level);
});

class Stats
{
    public $clients;
    public $locks;
    public $monitoring;
}

class Deadlock extends Exception
{
}

class Client
{
    private $connection;

    public function __construct(string $host, int $port)
    {
        $this->connection = fsockopen($host, $port, $errno, $errstr, 10);
        stream_set_timeout($this->connection, 60);
    }

    public function readLine(): string
    {
        return trim(fgets($this->connection));
    }

    public function send(string $command): void
    {
        fwrite($this->connection, "$command\n");
    }

    public function receive(): array
    {
        $line = $this->readLine();
        $parts = explode(' ', $line, 2);
        if (count($parts) !== 2 || !is_numeric($parts[0])) {
            throw new Exception("cannot parse the answer '$line'");
        }
        return [(int)$parts[0], $parts[1]];
    }

    public function command(string $command, int ...$expected): array
    {
        $this->send($command);
        $answer = $this->receive();
        if (!in_array($answer[0], $expected, true)) {
            throw new Exception("'$command' was answered by '$answer[0] $answer[1]'");
        }
        return $answer;
    }

    private function lockCommand(string $command): bool
    {
        [$code, $message] = $this->command($command, 200, 409, 423);
        if ($code === 423) {
            throw new Deadlock($message);
        }
        return $code === 200;
    }

    public function lock(string $key, int $timeout = 0): bool
    {
        return $this->lockCommand('lock ' . sha1($key) . " $timeout");
    }

    public function lockValue(string $key, string $value, int $timeout = 0): bool
    {
        return $this->lockCommand('lock_value ' . sha1($key) . ' ' . sha1($value) . " $timeout");
    }

    public function unlock(string $key): bool
    {
        return $this->command('unlock ' . sha1($key), 200, 403)[0] === 200;
    }

    public function stats(): Stats
    {
        $this->command('stats', 200);
        $stats = new Stats();
        while (($line = $this->readLine()) !== 'END') {
            $parts = explode(' ', $line);
            if (count($parts) !== 3 || $parts[0] !== 'STAT' || !is_numeric($parts[2])) {
                throw new Exception("unexpected line '$line'");
            }
            $stats->{$parts[1]} = (int)$parts[2];
        }
        return $stats;
    }

    public function debug(): array
    {
        $this->command('debug', 200);
        $info = ['SESSION' => [], 'LOCK' => [], 'REQUEST' => []];
        while (($line = $this->readLine()) !== 'END') {
            $parts = explode(' ', $line, 2);
            if (count($parts) !== 2 || !isset($info[$parts[0]])) {
                throw new Exception("unexpected line '$line'");
            }
            $info[$parts[0]][] = $parts[1];
        }
        return $info;
    }

    public function close(): void
    {
        fclose($this->connection);
    }
}

function check(bool $condition, string $what): void
{
    if (!$condition) {
        throw new Exception("failed: $what");
    }
}

[, $host, $port] = $argv;
$a = new Client($host, (int)$port);
$b = new Client($host, (int)$port);

check($a->lock('key', 5), 'a free key is locked');
check(!$b->lock('key'), 'a held key is not');
check(!$b->unlock('key'), 'nor can others unlock it');
check($a->unlock('key'), 'its owner can');
check(!$a->unlock('key'), 'once');

check($a->lockValue('role', 'reader'), 'a value is locked');
check($b->lockValue('role', 'reader'), 'and shared');
check(!$b->lockValue('role', 'writer'), 'but no other value');
$a->command('unlock_all', 200);
$b->command('unlock_all', 200);

// Deadlock: a waits for what b holds, and b asks for what a holds.
check($a->lock('first') && $b->lock('second'), 'each has one');
$a->send('lock ' . sha1('second') . ' 50');
while ($b->debug()['REQUEST'] === []) {
}
try {
    $b->lock('first', 50);
    check(false, 'a deadlock is reported');
} catch (Deadlock $deadlock) {
    check(str_contains($deadlock->getMessage(), sha1('first')), 'with the key in it');
}
check($b->unlock('second'), 'the circle is opened');
check($a->receive()[0] === 200, 'and the other one goes on');

$stats = $b->stats();
check([$stats->clients, $stats->locks, $stats->monitoring] === [2, 2, 2], 'the counters are right');
$info = $b->debug();
check(count($info['SESSION']) === 2 && count($info['LOCK']) === 2, 'debug lists them');
foreach ($info['SESSION'] as $session) {
    $decoded = json_decode($session, true, 8, JSON_THROW_ON_ERROR);
    check(is_int($decoded['id']) && $decoded['disposeTimeout'] === 30000, 'sessions are JSON');
}

// Resume: a's connection is lost, b takes its session over.
$id = $a->command('conn_id', 200)[1];
$a->command('set_timeout 600000', 200);
$a->close();
while ($b->command("conn_id $id", 200, 403)[0] === 403) {
}
check($b->unlock('first') && $b->unlock('second'), 'the locks are still there');
$b->command('quit', 200);
check($b->readLine() === '' , 'and the connection is closed');
$b->close();
echo "all checks passed\n";
