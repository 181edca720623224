<?php

declare(strict_types=1);

namespace Elock\Tests\Examples;

/** @requires extension pdo_sqlite */
final class PaymentTest extends ExampleTestCase
{
    private \PDO $database;

    protected function setUp(): void
    {
        parent::setUp();
        $this->database = new \PDO("sqlite:{$this->file('database')}", options: [\PDO::ATTR_TIMEOUT => 10]);
        $this->database->exec('CREATE TABLE accounts (name TEXT PRIMARY KEY, balance INTEGER, token INTEGER)');
        $this->database->exec("INSERT INTO accounts VALUES ('anna', 1000, 0), ('bob', 1000, 0)");
    }

    public function testNoPaymentIsLost(): void
    {
        $this->noPaymentIsLost();
        self::assertSame('0', $this->client->info()['deadlocks']);
    }

    public function testIsNoticedWithoutTheLocks(): void
    {
        $this->grantAll();
        $this->assertNotices($this->noPaymentIsLost(...));
    }

    public function testTooMuch(): void
    {
        $run = $this->start('payment', $this->file('database'), 'anna', 'bob', '1001');
        self::assertSame(255, $run->code());
        self::assertStringContainsString('anna has not got 1001', implode('', $run->said()));
        self::assertSame(['anna' => 1000, 'bob' => 1000], $this->balances());
    }

    /** @dataProvider noPayments */
    public function testWhatIsNoPayment(string $to, string $amount): void
    {
        self::assertSame(255, $this->start('payment', $this->file('database'), 'anna', $to, $amount)->code());
        self::assertSame(['anna' => 1000, 'bob' => 1000], $this->balances());
    }

    /** @return list<array{string, string}> */
    public function noPayments(): array
    {
        return [['anna', '10'], ['bob', '-10']];
    }

    public function testALateOneWritesNothing(): void
    {
        $this->aLateOneWritesNothing();
    }

    public function testALateOneIsNoticedWithoutTheTokens(): void
    {
        $this->vary('payment', ' AND token <= ?', '');
        $this->vary('payment', '[$balance, $token, $name, $token]', '[$balance, $token, $name]');
        $this->assertNotices($this->aLateOneWritesNothing(...));
    }

    private function aLateOneWritesNothing(): void
    {
        $this->database->exec("UPDATE accounts SET token = 9000000000000000000 WHERE name = 'bob'");
        self::assertSame(255, $this->start('payment', $this->file('database'), 'anna', 'bob', '10')->code());
        self::assertSame(['anna' => 1000, 'bob' => 1000], $this->balances());
    }

    private function noPaymentIsLost(): void
    {
        $runs = [];
        for ($pair = 0; $pair < 10; $pair++) {
            $runs[] = $this->start('payment', $this->file('database'), 'anna', 'bob', '3');
            $runs[] = $this->start('payment', $this->file('database'), 'bob', 'anna', '2');
        }
        $said = array_merge(...array_map(static fn (Run $run): array => $run->end(), $runs));
        self::assertSame(['anna' => 990, 'bob' => 1010], $this->balances());
        self::assertSame(array_fill(0, 20, 'paid'), $said);
    }

    /** @return array<string, int> */
    private function balances(): array
    {
        return $this->database->query('SELECT name, balance FROM accounts')->fetchAll(\PDO::FETCH_KEY_PAIR);
    }
}
