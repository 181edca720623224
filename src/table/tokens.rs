//! Where fencing tokens come from.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::pauses::Pauses;
use crate::model::Token;

/// The length of a tick: tokens are counted in tenths of microseconds.
const TICK_NS: u32 = 100;

const TICKS_A_SECOND: u64 = 10_000_000;

/// Gives tokens, each above all before it. If it knows the time, it is told from time to time how late
/// it is, and no later token is below the ticks that have passed: so a token tells when it was given,
/// with nothing to be kept beside it. That is for people to see, and nothing may rest on it.
#[derive(Debug, Default)]
pub struct TokenClock {
    last: AtomicU64,
    /// A moment, and its tick.
    known: Option<(Instant, Token)>,
    /// In these the ticks went on.
    pauses: Pauses,
}

impl TokenClock {
    /// Tokens above this one, by counting alone.
    pub fn above(last: Token) -> Self {
        let last = AtomicU64::new(last.0);
        Self {
            last,
            ..Self::default()
        }
    }

    /// Tokens above the tick that `now` is. The ticks go on in the `pauses`, which are left out of all
    /// times.
    pub fn from(now: Instant, tick: Token, pauses: Pauses) -> Self {
        let last = AtomicU64::new(tick.0);
        let known = Some((now + pauses.in_all(), tick));
        Self {
            last,
            known,
            pauses,
        }
    }

    /// The same, also above `last`.
    pub fn and_above(self, last: Token) -> Self {
        self.last.fetch_max(last.0, Ordering::Relaxed);
        self
    }

    /// A token above all that were given.
    pub(super) fn next(&self) -> Token {
        Token(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// From here on tokens are above the tick that `now` is.
    pub(super) fn advance(&self, now: Instant) {
        if let Some(tick) = self.tick(now)
            && tick.0 > self.last.load(Ordering::Relaxed)
        {
            self.last.fetch_max(tick.0, Ordering::Relaxed);
        }
    }

    /// The last token that was given.
    pub(super) fn last(&self) -> Token {
        Token(self.last.load(Ordering::Relaxed))
    }

    /// The pauses that it counts.
    pub(super) fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// How long before `now` a token was given; nothing if the time is not known, or if the token is
    /// ahead of the time, as tokens are for a while after a restart.
    pub(super) fn age(&self, token: Token, now: Instant) -> Option<Duration> {
        let ticks = self.tick(now)?.0.saturating_sub(token.0);
        Some(Duration::from_nanos(ticks.saturating_mul(TICK_NS.into())))
    }

    /// For how many ticks a token has been given when [`TokenClock::advance`] was last called: as
    /// [`TokenClock::age`], for those who cannot spend time on the time. Nothing if the time is not known.
    #[inline]
    pub(super) fn ticks_since(&self, token: Token) -> Option<u64> {
        self.known?;
        Some(self.last().0.saturating_sub(token.0))
    }

    fn tick(&self, now: Instant) -> Option<Token> {
        let (then, tick) = self.known?;
        let passed = (now + self.pauses.in_all()).saturating_duration_since(then);
        let ticks = passed.as_secs() * TICKS_A_SECOND + u64::from(passed.subsec_nanos() / TICK_NS);
        Some(Token(tick.0 + ticks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_grow_and_say_when_they_were_given() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let pauses = Pauses::default();
        let clock = TokenClock::from(start, Token(50), pauses.clone());
        assert_eq!(clock.next(), Token(51));
        clock.advance(start);
        assert_eq!(clock.next(), Token(52));
        clock.advance(start + second);
        let later = clock.next();
        assert_eq!(later, Token(51 + 10_000_000));
        clock.advance(start);
        assert_eq!(clock.next(), Token(52 + 10_000_000), "never less");
        let tick = Duration::from_nanos(100);
        assert_eq!(
            clock.age(later, start + 3 * second),
            Some(2 * second - tick)
        );
        assert_eq!(clock.age(later, start), Some(Duration::ZERO));
        assert_eq!(clock.ticks_since(later), Some(1));
        clock.advance(start + 3 * second);
        assert_eq!(clock.ticks_since(later), Some(19_999_999));
        pauses.add(second * 2);
        assert_eq!(
            clock.age(later, start + 3 * second),
            Some(4 * second - tick)
        );
        let above = clock.and_above(Token(70_000_000));
        above.advance(start + second);
        assert_eq!(above.next(), Token(70_000_001));
        assert_eq!(TokenClock::above(Token(7)).next(), Token(8));
    }
}
