//! How many commands may be run in a second, and who is next when there are more.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::account::Usage;

const SECOND: Duration = Duration::from_secs(1);

const NONE: u32 = u32::MAX;

/// The commands of one account. A second's worth comes at once; what is not taken is not saved up beyond that.
/// May be used from any number of threads at once.
///
/// Nothing is taken before it is there, so nobody owes anything: once whoever took all is gone, the others
/// go on.
#[derive(Debug)]
pub struct Rate {
    /// [`NONE`]: as many as come.
    per_second: AtomicU32,
    /// Until when the commands so far are paid for, never more than a second from now.
    paid_until: Mutex<Option<Instant>>,
    /// Whoever has its permit takes the next command; the others queue for it, and nobody passes them.
    line: Semaphore,
    /// Of those who have much to ask, whoever has this permit stands in the line for all of them: so they
    /// are no more than one to those who ask for little.
    crowd: Semaphore,
}

/// A command that was taken, and is put back unless it [is used](OneCommand::is_used).
#[derive(Debug)]
#[must_use]
pub struct OneCommand<'a>(Option<&'a Rate>);

impl OneCommand<'_> {
    /// It runs now.
    pub fn is_used(mut self) {
        self.0 = None;
    }
}

impl Drop for OneCommand<'_> {
    fn drop(&mut self) {
        if let Some(rate) = self.0 {
            rate.put_back();
        }
    }
}

impl Default for Rate {
    /// Without a bound.
    fn default() -> Self {
        Self {
            per_second: AtomicU32::new(NONE),
            paid_until: Mutex::default(),
            line: Semaphore::new(1),
            crowd: Semaphore::new(1),
        }
    }
}

impl Rate {
    /// Sets how many there may be in a second, also for those who wait; `None`: as many as come.
    pub fn set(&self, per_second: Option<u32>) {
        let per_second = per_second.map_or(NONE, |rate| rate.max(1));
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    fn per_second(&self) -> Option<u32> {
        let rate = self.per_second.load(Ordering::Relaxed);
        (rate != NONE).then_some(rate)
    }

    /// Takes one command, if there is one, and nobody waits for it.
    ///
    /// # Errors
    ///
    /// If not: how many there may be in a second.
    pub fn take(&self, now: Instant) -> Result<(), u32> {
        match self.per_second() {
            None => Ok(()),
            Some(rate) if self.line.available_permits() == 0 => Err(rate),
            Some(rate) => self.take_next(now).map_err(|_| rate),
        }
    }

    /// Puts back what was taken and not used.
    pub fn put_back(&self) {
        if let Some(rate) = self.per_second() {
            let mut paid_until = self.paid_until();
            *paid_until = paid_until.and_then(|until| until.checked_sub(SECOND / rate));
        }
    }

    /// Takes one command when it is this one's turn. Cancel safe: whoever does not wait any more has taken
    /// nothing.
    pub async fn wait_and_take(&self, has_much: bool, now: impl Fn() -> Instant) -> OneCommand<'_> {
        // Neither is ever closed.
        let _of_crowd = match has_much {
            true => self.crowd.acquire().await.ok(),
            false => None,
        };
        let _next = self.line.acquire().await.ok();
        while let Err(rest) = self.take_next(now()) {
            sleep(rest).await;
        }
        OneCommand(Some(self))
    }

    /// Takes one command, whoever waits.
    ///
    /// # Errors
    ///
    /// If there is none: in how long there is.
    fn take_next(&self, now: Instant) -> Result<(), Duration> {
        let Some(rate) = self.per_second() else {
            return Ok(());
        };
        let mut paid_until = self.paid_until();
        let until = paid_until.map_or(now, |until| until.max(now)) + SECOND / rate;
        let rest = until.saturating_duration_since(now + SECOND);
        if !rest.is_zero() {
            return Err(rest);
        }
        *paid_until = Some(until);
        Ok(())
    }

    /// Whether nothing is taken of a second's worth.
    pub fn is_full(&self, now: Instant) -> bool {
        self.paid_until().is_none_or(|until| until <= now)
    }

    /// How much of a second's worth is taken; `None` if there is no bound.
    pub fn usage(&self, now: Instant) -> Option<Usage> {
        let max = self.per_second()?;
        let ahead = self
            .paid_until()
            .map(|until| until.saturating_duration_since(now));
        // Rounded, as a command's share of a second is.
        let used = ahead.unwrap_or_default().min(SECOND) * max + SECOND / 2;
        let used = u32::try_from(used.as_secs()).unwrap_or(max);
        Some(Usage { used, max })
    }

    /// Nothing is half done where a holder could panic.
    fn paid_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.paid_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn of(per_second: u32) -> Rate {
        let rate = Rate::default();
        rate.set(Some(per_second));
        rate
    }

    /// How many there are at this time.
    fn take_all(rate: &Rate, now: Instant) -> usize {
        (0..1_000).take_while(|_| rate.take(now).is_ok()).count()
    }

    #[test]
    fn a_seconds_worth_comes_at_once_and_is_never_passed() {
        let now = Instant::now();
        assert_eq!(take_all(&Rate::default(), now), 1_000);
        for per_second in [1, 3, 100] {
            let rate = of(per_second);
            assert_eq!(take_all(&rate, now), per_second as usize);
            assert_eq!(rate.take(now), Err(per_second));
            rate.put_back();
            assert_eq!(take_all(&rate, now), 1);
            // Time in which nothing comes is not saved up.
            let much_later = now + 60 * SECOND;
            assert_eq!(take_all(&rate, much_later), per_second as usize);
        }
        let rate = of(100);
        take_all(&rate, now);
        // The half may lack one, as the shares are rounded.
        assert!((49..=50).contains(&take_all(&rate, now + SECOND / 2)));
    }

    #[test]
    fn what_is_taken_of_a_second_can_be_seen() {
        let (rate, now) = (of(3), Instant::now());
        let used = |now| rate.usage(now).map(|usage| usage.used);
        assert_eq!(used(now), Some(0));
        take_all(&rate, now);
        assert_eq!(used(now), Some(3));
        assert_eq!(used(now + SECOND), Some(0));
        assert_eq!(Rate::default().usage(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_served_in_turn_and_those_with_much_are_one_of_them() {
        let rate = Arc::new(of(10));
        let now = || tokio::time::Instant::now().into_std();
        take_all(&rate, now());
        for _ in 0..20 {
            let rate = Arc::clone(&rate);
            tokio::spawn(async move {
                loop {
                    rate.wait_and_take(true, now).await.is_used();
                }
            });
        }
        tokio::task::yield_now().await;
        let begin = now();
        for _ in 0..10 {
            assert_eq!(rate.take(now()), Err(10), "nobody passes those who wait");
            rate.wait_and_take(false, now).await.is_used();
        }
        let took = now().duration_since(begin).as_millis();
        // Every other command is theirs.
        assert!((1_800..=2_100).contains(&took), "{took} ms");
    }
}
