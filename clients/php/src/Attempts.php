<?php

declare(strict_types=1);

namespace Elock;

use Elock\Exception\ConnectionException;
use Elock\Exception\ElockException;
use Elock\Exception\ServerStoppingException;
use Elock\Exception\TimeoutException;

/**
 * One lock, asked for until there is an answer: over breaks of the connection and restarts of the server, for as long
 * as it may wait.
 *
 * What makes that hard: where a connection broke, nobody knows whether the lock was granted. A session asks again, and
 * is granted what it holds. An owner is not; and another process with the same word may have held the lock before, or
 * have got it since. So only a word that was made for the lock is told of such a grant. For another, its token is asked
 * for before the wait: where it is the same after the break, this attempt was granted nothing, and goes on.
 *
 * @internal
 */
final class Attempts
{
    /** The token by which the owner held it before; 0: it did not; null: that is not known. */
    private ?int $before = null;
    private ?Exchange $last = null;
    /** Where the lock stands in it. */
    private int $position = 0;
    /** Whether it may be granted, as far as all attempts tell. */
    private bool $mayBeGranted = false;

    public function __construct(private readonly Session $session, private readonly Acquisition $wanted)
    {
        $this->before = $wanted->isOwnerNew ? 0 : null;
    }

    /**
     * @return non-empty-list<Answer> to the lock, and to what was asked behind it
     * @throws ElockException there was no answer
     */
    public function answers(): array
    {
        try {
            $answers = $this->tryToTheEnd();
            Signals::dispatch();
            return $answers;
        } catch (ConnectionException | ServerStoppingException $problem) {
            // Another question would be in vain, or would wait as long again.
            $this->giveBack(Signals::threw($problem));
            throw $problem;
        } catch (\Throwable $problem) {
            $this->giveBack(true);
            throw $problem;
        }
    }

    /** @return non-empty-list<Answer> */
    private function tryToTheEnd(): array
    {
        $ends = Deadline::in($this->wanted->wait);
        $closings = $this->session->closings();
        // A connection that was kept may be gone for long, which is no reason to give up.
        $mayTryAgain = $this->session->isConnected();
        $broken = null;
        $pause = new Pause();
        while (true) {
            try {
                if ($broken === null) {
                    return $this->ask($ends);
                }
                $pause->sleep($ends);
                if ($this->session->closings() !== $closings) {
                    throw $broken;
                }
                return $this->isOurs($broken) ? $this->granted() : $this->askAgain($ends, $broken);
            } catch (ConnectionException | ServerStoppingException $problem) {
                // A signal handler that closed the client, or that throws, wants no more of it.
                $isUnwanted = $this->session->closings() !== $closings || Signals::threw($problem);
                $isFinal = $problem === $broken || $problem instanceof TimeoutException;
                // Whether a new owner's lock was granted can be asked, on a first connection as well.
                $isFirst = $broken === null && ($mayTryAgain || ($this->wanted->isOwnerNew && $this->mayBeGranted));
                if ($isUnwanted || $isFinal || (!$isFirst && $ends->isOver())) {
                    throw $problem;
                }
                $broken = $problem;
                $this->session->log('info', 'elock: {problem}; asking again', $problem);
            }
        }
    }

    /** @return non-empty-list<Answer> */
    private function ask(Deadline $ends): array
    {
        $wait = $this->wanted->wait > 0.0 ? $ends->left() : 0.0;
        $first = [];
        if ($wait > 0.0 && $this->before === null && $this->wanted->owner !== null) {
            $first = [Request::token($this->wanted->keys[0], $this->wanted->owner)];
        }
        $this->position = count($first);
        $asked = new Exchange([...$first, $this->wanted->request($wait), ...$this->wanted->behind]);
        $this->last = $asked;
        try {
            $this->session->run($asked);
        } finally {
            $lock = $asked->answer($this->position);
            $this->mayBeGranted = $asked->isSent ? $lock === null || $lock->isOk() : $this->mayBeGranted;
            $answer = $first === [] ? null : $asked->answer(0);
            if ($answer?->isOk() || $answer?->code === Answer::NOT_HELD) {
                $this->before = $answer->isOk() ? (int)$answer->text : 0;
            }
        }
        /** @var non-empty-list<Answer> */
        return $first === [] ? $asked->own() : array_slice($asked->own(), 1);
    }

    /** @return non-empty-list<Answer> */
    private function askAgain(Deadline $ends, ElockException $broken): array
    {
        $answers = $this->ask($ends);
        // The place in the queue that was ours may have got it, before the server heard that nobody is there.
        $isRefused = in_array($answers[0]->code, [Answer::UNAVAILABLE, Answer::DEADLOCK], true);
        return $isRefused && $this->isOurs($broken) ? $this->granted() : $answers;
    }

    /**
     * Whether an owner was granted it by an attempt whose answer did not come.
     *
     * @throws ElockException that cannot be known, because of this
     */
    private function isOurs(ElockException $broken): bool
    {
        if ($this->wanted->owner === null) {
            return false;
        }
        if ($this->last?->answer($this->position)?->isOk() === true) {
            return true;
        }
        $answer = $this->session->ask([Request::token($this->wanted->keys[0], $this->wanted->owner)])[0];
        if (!$answer->isOkOr(Answer::NOT_HELD)) {
            $this->before ??= 0;
            return false;
        }
        if ($this->wanted->isOwnerNew) {
            return true;
        }
        // Another token than before may be that of another process with the same word.
        return (int)$answer->text === $this->before ? false : throw $broken;
    }

    /** @return non-empty-list<Answer> */
    private function granted(): array
    {
        $behind = $this->wanted->behind === [] ? [] : $this->session->ask($this->wanted->behind);
        return [new Answer(Answer::OK, 'Acquired', [], $this->wanted->request(0.0)), ...$behind];
    }

    /** What was granted though nobody wants it any more, as far as that is known. */
    private function giveBack(bool $isNow): void
    {
        if (!$this->mayBeGranted) {
            return;
        }
        try {
            if ($this->wanted->owner === null || $this->wanted->isOwnerNew) {
                $this->session->owe($this->wanted->keys, $this->wanted->owner);
                $isNow && $this->session->ask([]);
                return;
            }
            $unlock = Request::unlock($this->wanted->keys[0], $this->wanted->owner);
            $isGranted = $this->last?->answer($this->position)?->isOk() === true;
            $isKnown = $isGranted || ($isNow && $this->before !== null);
            $isKnown && $this->isOurs(new ConnectionException()) && $this->session->ask([$unlock]);
        } catch (ElockException $problem) {
            $this->session->log(
                'warning',
                'elock: a lock that was given up may have been granted, and stays until the server is told: {problem}',
                $problem,
            );
        }
    }
}
