//! Where fencing tokens come from.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::model::Token;

/// The length of a tick: tokens are counted in tenths of microseconds.
const TICK_NS: u128 = 100;

/// Gives tokens, each above all before it. If it knows the time, a token is not below the ticks that
/// have passed, so that it tells when it was given, with nothing to be kept beside it: for people to
/// see, and nothing may rest on that.
#[derive(Debug, Default)]
pub struct TokenClock {
    last: AtomicU64,
    /// A moment, and its tick.
    known: Option<(Instant, Token)>,
}

impl TokenClock {
    /// Tokens above this one, by counting alone.
    pub fn above(last: Token) -> Self {
        let last = AtomicU64::new(last.0);
        Self { last, known: None }
    }

    /// Tokens above the tick that `now` is.
    pub fn from(now: Instant, tick: Token) -> Self {
        let last = AtomicU64::new(tick.0);
        let known = Some((now, tick));
        Self { last, known }
    }

    /// The same, also above `last`.
    pub fn and_above(self, last: Token) -> Self {
        self.last.fetch_max(last.0, Ordering::Relaxed);
        self
    }

    /// A token above all that were given, at `now`.
    pub(super) fn next(&self, now: Instant) -> Token {
        let tick = self.tick(now).unwrap_or_default();
        let next = |last: u64| Some((last + 1).max(tick.0));
        let update = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let last = update.unwrap_or_else(|last| last);
        Token((last + 1).max(tick.0))
    }

    /// The last token that was given.
    pub(super) fn last(&self) -> Token {
        Token(self.last.load(Ordering::Relaxed))
    }

    /// How long before `now` a token was given; nothing if the time is not known, or if the token is
    /// ahead of the time, as tokens are for a while after a restart.
    pub(super) fn age(&self, token: Token, now: Instant) -> Option<Duration> {
        let ticks = self.tick(now)?.0.saturating_sub(token.0);
        Some(Duration::from_nanos(ticks.saturating_mul(TICK_NS as u64)))
    }

    fn tick(&self, now: Instant) -> Option<Token> {
        let (then, tick) = self.known?;
        let passed = now.saturating_duration_since(then).as_nanos() / TICK_NS;
        let passed = u64::try_from(passed).unwrap_or(u64::MAX >> 3);
        Some(Token(tick.0.saturating_add(passed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_grow_and_say_when_they_were_given() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let clock = TokenClock::from(start, Token(50));
        assert_eq!(clock.next(start), Token(51));
        assert_eq!(clock.next(start), Token(52));
        let later = clock.next(start + second);
        assert_eq!(later, Token(50 + 10_000_000));
        assert_eq!(clock.next(start), Token(51 + 10_000_000), "never less");
        assert_eq!(clock.age(later, start + 3 * second), Some(2 * second));
        assert_eq!(clock.age(later, start), Some(Duration::ZERO));
        let above = clock.and_above(Token(70_000_000));
        assert_eq!(above.next(start + second), Token(70_000_001));
        assert_eq!(TokenClock::above(Token(7)).next(start), Token(8));
    }
}
