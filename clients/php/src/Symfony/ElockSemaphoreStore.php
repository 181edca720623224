<?php

declare(strict_types=1);

namespace Elock\Symfony;

use Elock\Answer;
use Elock\Client;
use Elock\Exception\ElockException;
use Elock\Request;
use Elock\Word;
use Symfony\Component\Semaphore\Exception\InvalidArgumentException;
use Symfony\Component\Semaphore\Exception\RuntimeException;
use Symfony\Component\Semaphore\Exception\SemaphoreAcquiringException;
use Symfony\Component\Semaphore\Exception\SemaphoreExpiredException;
use Symfony\Component\Semaphore\Key;
use Symfony\Component\Semaphore\PersistingStoreInterface;

/**
 * Symfony's semaphores by elock. A key of weight 3 takes three of the slots of its resource, all or none, for owner
 * words that belong to the key and to no connection.
 *
 * Every method throws {@see RuntimeException} when the server cannot be asked, or does not do what it is asked for
 * other reasons than that the semaphore is full; it is not known then whether the slots are held.
 *
 * Keys never hold more than the limit together. A key that weighs more than 1 takes its slots one after the other: of
 * such keys that come in the same moment, where not all of them fit, more may be refused than need be.
 */
final class ElockSemaphoreStore implements PersistingStoreInterface
{
    /** Where a key's owner word is. */
    private const STATE = self::class;
    /** So many requests in one packet, so that server and client never wait for each other to read. */
    private const LONGEST_PACKET = 512;

    public function __construct(private readonly Client $client)
    {
    }

    /**
     * Takes as many slots as the key weighs, or renews them if it has them already.
     *
     * @param float $ttlInSecond after which they are free again unless {@see putOffExpiration()} is called, in seconds
     * @throws SemaphoreAcquiringException the semaphore is full
     */
    public function save(Key $key, float $ttlInSecond): void
    {
        $leaseMs = self::leaseMs($ttlInSecond);
        $key->hasState(self::STATE) || $key->setState(self::STATE, bin2hex(random_bytes(16)));
        $word = $this->word($key);
        // Each slot is asked for with room for the whole weight: where the first is refused, nothing was taken.
        $slots = $key->getLimit() - $key->getWeight();
        $requests = [];
        foreach ($this->owners($key) as $owner) {
            $requests[] = Request::lockSlot($word, ++$slots, 0.0, $owner, $leaseMs);
            // Tells whether the slot is held, since now or before. So this may be sent twice.
            $requests[] = Request::expire($word, $leaseMs, $owner);
        }
        $mayHaveSome = false;
        try {
            foreach ([array_splice($requests, 0, 2), ...array_chunk($requests, self::LONGEST_PACKET)] as $packet) {
                $answers = $this->ask($packet);
                $hasAll = true;
                foreach ($answers as $position => $answer) {
                    $isSlot = $position % 2 === 0;
                    $isOk = $isSlot
                        ? $answer->isOkOr(Answer::UNAVAILABLE, Answer::DEADLOCK)
                        : $answer->isOkOr(Answer::NOT_HELD);
                    $mayHaveSome = $mayHaveSome || $isOk;
                    $hasAll = $hasAll && ($isSlot || $isOk);
                }
                if (!$hasAll) {
                    $mayHaveSome && $this->delete($key);
                    throw new SemaphoreAcquiringException($key, 'others have its slots');
                }
            }
        } catch (ElockException $problem) {
            $this->discard($key);
            throw new RuntimeException($problem->getMessage(), 0, $problem);
        }
    }

    /** Gives the slots back, if this key has them. */
    public function delete(Key $key): void
    {
        $this->countHeld($key, Request::unlock(...));
    }

    /** Whether this key has its slots at this moment, as the server knows it. */
    public function exists(Key $key): bool
    {
        return $this->countHeld($key, Request::token(...)) === $key->getWeight();
    }

    /**
     * Lets the slots be free by themselves so many seconds from now.
     *
     * @param float $ttlInSecond in seconds
     * @throws SemaphoreExpiredException this key does not have its slots, or no longer; what is left is given back
     */
    public function putOffExpiration(Key $key, float $ttlInSecond): void
    {
        $leaseMs = self::leaseMs($ttlInSecond);
        $held = $this->countHeld(
            $key,
            static fn (Word $word, Word $owner): Request => Request::expire($word, $leaseMs, $owner),
        );
        if ($held < $key->getWeight()) {
            $held > 0 && $this->delete($key);
            throw new SemaphoreExpiredException($key, 'this key does not have its slots, or not any more');
        }
    }

    /**
     * Asks this for each slot of the key, and counts those that it has.
     *
     * @param \Closure(Word, Word): Request $request
     */
    private function countHeld(Key $key, \Closure $request): int
    {
        $word = $this->word($key);
        $requests = array_map(static fn (Word $owner): Request => $request($word, $owner), $this->owners($key));
        $held = 0;
        try {
            foreach (array_chunk($requests, self::LONGEST_PACKET) as $packet) {
                foreach ($this->ask($packet) as $answer) {
                    $held += (int)$answer->isOkOr(Answer::NOT_HELD);
                }
            }
        } catch (ElockException $problem) {
            throw new RuntimeException($problem->getMessage(), 0, $problem);
        }
        return $held;
    }

    /** After a problem, which is what is told; what cannot be given back ends with its lease. */
    private function discard(Key $key): void
    {
        try {
            $this->delete($key);
        } catch (RuntimeException) {
        }
    }

    /**
     * @param list<Request> $packet
     * @return list<Answer>
     */
    private function ask(array $packet): array
    {
        return $this->client->send(...$packet);
    }

    private function word(Key $key): Word
    {
        return $this->client->naming()->key((string)$key);
    }

    /**
     * One for each slot, since an owner has one slot of a resource.
     *
     * @return list<Word> none if this key never asked for any
     */
    private function owners(Key $key): array
    {
        $owner = $key->hasState(self::STATE) ? $key->getState(self::STATE) : null;
        if (!is_string($owner)) {
            return [];
        }
        return array_map(
            fn (int $slot): Word => $this->client->naming()->owner("$owner.$slot"),
            range(1, $key->getWeight()),
        );
    }

    /** What rounds to 0 would be no limit at all. */
    private static function leaseMs(float $ttl): int
    {
        if (!($ttl >= 0.0)) {
            throw new InvalidArgumentException("the TTL is 0 seconds or more, and not $ttl");
        }
        return max(1, Request::milliseconds($ttl));
    }
}
