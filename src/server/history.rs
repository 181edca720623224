//! The numbers of the last hour, so that an operator who looks only now sees what came before.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::figures::{self, Figures, NUMBERS};
use super::shown::unix_now;

/// How often the numbers are read.
const EVERY: Duration = Duration::from_secs(10);

/// How many readings are kept: those of an hour.
const KEPT: usize = 360;

/// The numbers of a server at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Since the beginning of 1970.
    pub(crate) at: Duration,
    /// In the order of [`figures::numbers`].
    pub(crate) numbers: [u64; NUMBERS],
}

/// The last readings, the oldest first.
#[derive(Debug)]
pub(super) struct History(Mutex<VecDeque<Sample>>);

impl History {
    /// Begins with the numbers as they are.
    pub(super) fn of(shared: &Shared) -> Self {
        Self(Mutex::new(VecDeque::from([sample(shared)])))
    }

    /// Reads the numbers again and again, until `stop`.
    pub(super) async fn keep(self: Arc<Self>, shared: Arc<Shared>, stop: CancellationToken) {
        let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let keep = async {
            loop {
                ticks.tick().await;
                self.add(sample(&shared));
            }
        };
        stop.run_until_cancelled(keep).await;
    }

    fn add(&self, sample: Sample) {
        let mut kept = self.kept();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(sample);
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        self.kept().iter().copied().collect()
    }

    /// Nothing is half done where a holder could panic.
    fn kept(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sample(shared: &Shared) -> Sample {
    let numbers = figures::numbers(shared, Figures::of(shared));
    Sample {
        at: unix_now(),
        numbers: numbers.map(|(_, number)| number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::harness::Server;

    #[tokio::test(start_paused = true)]
    async fn an_hour_is_kept_and_no_more() {
        let server = Server::start();
        let (history, stop) = (
            Arc::new(History::of(&server.shared)),
            CancellationToken::new(),
        );
        let keeping = Arc::clone(&history).keep(Arc::clone(&server.shared), stop.clone());
        let keeping = tokio::spawn(keeping);
        tokio::time::sleep(Duration::from_secs(35)).await;
        assert_eq!(history.samples().len(), 4);
        let shared = &server.shared;
        let names = figures::numbers(shared, Figures::of(shared)).map(|(name, _)| name);
        assert_eq!(names[2], "locks");
        let mut client = server.connect();
        client.ask("lock k", "200 Acquired").await;
        tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
        let samples = history.samples();
        assert_eq!(samples.len(), KEPT);
        assert_eq!(samples[KEPT - 1].numbers[2], 1);
        stop.cancel();
        keeping.await.expect("no panic");
        server.stop().await;
    }
}
