<?php

/**
 * A payment, which locks two accounts: php payment.php DATABASE FROM TO AMOUNT
 *
 * Both or none, by one request: so two payments in opposite directions never wait for each other for ever. The database
 * has CREATE TABLE accounts (name TEXT PRIMARY KEY, balance INTEGER NOT NULL, token INTEGER NOT NULL DEFAULT 0).
 */

declare(strict_types=1);

use Elock\Client;
use Elock\Lock;

require __DIR__ . '/../autoload.php';

[, $file, $from, $to, $amount] = $argv;
$database = new PDO("sqlite:$file", options: [PDO::ATTR_TIMEOUT => 10]);
$client = Client::connect(getenv('ELOCK_SERVER') ?: 'tcp://127.0.0.1:11400');

$locks = $client->lockAll(["account $from", "account $to"], wait: 60);
$token = max(array_map(fn (Lock $lock): int => $lock->token(), $locks));
try {
    $from !== $to && $amount > 0 || throw new RuntimeException('this is no payment');
    $balances = $database->query('SELECT name, balance FROM accounts')->fetchAll(PDO::FETCH_KEY_PAIR);
    usleep(20_000);                                         // The bank thinks about it.
    if ($balances[$from] < $amount) {
        throw new RuntimeException("$from has not got $amount");
    }
    // The tokens keep out one that was late, should its locks be lost before this.
    $write = $database->prepare('UPDATE accounts SET balance = ?, token = ? WHERE name = ? AND token <= ?');
    $database->beginTransaction();
    foreach ([$from => $balances[$from] - $amount, $to => $balances[$to] + $amount] as $name => $balance) {
        $write->execute([$balance, $token, $name, $token]);
        if ($write->rowCount() === 0) {
            throw new RuntimeException('the locks were lost, and nothing is written');
        }
    }
    $database->commit();                                    // Without it, nothing of this has happened.
    echo "paid\n";
} finally {
    array_map(fn (Lock $lock): bool => $lock->release(), $locks);
}
