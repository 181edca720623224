<?php

declare(strict_types=1);

namespace Elock\Tests\Scenarios\Catalogue;

use Elock\Tests\Scenarios\Outcome;
use Elock\Tests\Scenarios\World;

/**
 * Names of any bytes: no two are one lock, and no two owners one.
 */
final class Names
{
    public function oddNamesAreAllDifferent(World $world): void
    {
        [$here, $there, $third] = $world->processes(3);
        $locks = [];
        foreach (self::odd() as $shown => $name) {
            $locks[$shown] = $here->lock($name);
            $world->see("$shown here", Outcome::TAKEN, $locks[$shown]->take());
        }
        foreach (self::odd() as $shown => $name) {
            $world->see("$shown there", Outcome::REFUSED, $there->lock($name)->take());
            $restored = $there->lock($name, owner: $locks[$shown]->owner());
            $world->see("$shown is its owner's", Outcome::MINE, $restored->isMine());
        }
        foreach (self::odd() as $shown => $name) {
            $there->lock($name, owner: $locks[$shown]->owner())->release();
            $world->see("$shown then", Outcome::TAKEN, $third->lock($name)->take());
        }
    }

    public function oddOwnersAreAllDifferent(World $world): void
    {
        if ($world->either('yes', 'no') === 'yes') {
            throw new \Elock\Tests\Scenarios\NotOffered('owners that the application chooses');
        }
        [$here, $there] = $world->processes(2);
        foreach (self::odd() as $shown => $owner) {
            $lock = $here->lock('k', owner: $owner);
            $world->see("$shown takes", Outcome::TAKEN, $lock->take());
            foreach (self::odd() as $shownOther => $other) {
                if ($other !== $owner) {
                    $late = $there->lock('k', owner: $other)->release();
                    $world->see("$shownOther for $shown", Outcome::NOT_HELD, $late);
                }
            }
            $world->see("$shown has it", Outcome::MINE, $there->lock('k', owner: $owner)->isMine());
            $world->see("$shown releases", Outcome::RELEASED, $there->lock('k', owner: $owner)->release());
        }
    }

    public function oddNamesAreWaitedFor(World $world): void
    {
        [$here, $there] = $world->processes(2);
        foreach (self::odd() as $shown => $name) {
            [$lock, $waiting] = [$here->lock($name), $there->lock($name)];
            $world->see("$shown here", Outcome::TAKEN, $lock->take());
            $waiting->startBlock($world->longWait());
            $world->allWait($waiting);
            $lock->release();
            $world->see("$shown there", Outcome::TAKEN, $waiting->outcome());
        }
    }

    /** @return array<string, string> by what to call them in a report */
    private static function odd(): array
    {
        $long = str_repeat('x', 4999);
        return [
            'a word' => 'k',
            'another case' => 'K',
            'a space within' => 'a b',
            'two of them' => 'a  b',
            'an encoded one' => 'a%20b',
            'one encoded twice' => 'a%2520b',
            'a plus' => 'a+b',
            'a space alone' => ' ',
            'an encoded one alone' => '%20',
            'a space before' => ' k',
            'a space behind' => 'k ',
            'nothing' => '',
            'what stands for nothing' => '%-',
            'a zero' => '0',
            'UTF-8' => 'Grüße, 世界',
            'no UTF-8' => "\xFF\xFE",
            'NUL within' => "a\0b",
            'NUL alone' => "\0",
            'a newline' => "a\nb",
            'CR LF' => "a\r\nb",
            'CR at the end' => "a\r",
            'a tab' => "a\tb",
            'DEL' => "a\x7Fb",
            'a percent sign' => '%',
            'a star' => '*',
            'begins with a star' => '*k',
            'begins with an equals sign' => '=k',
            'two of those' => '==k',
            'a backslash' => '\\x2Ak',
            'HTTP' => 'HTTP/1.1',
            'HTTP, encoded' => '%48TTP/1.1',
            'a request' => 'GET / HTTP/1.1',
            'a command' => 'k 60 owner 1000',
            'quotes' => '"k"',
            'long' => "{$long}1",
            'as long' => "{$long}2",
            'its hash' => str_repeat('x', 100) . '%#' . hash('sha256', "{$long}1"),
            'braces' => '{k}',
            'slashes' => '../../k',
        ];
    }
}
