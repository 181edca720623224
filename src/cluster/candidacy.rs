//! The thread that stands for election, and renews the lease of the one that is elected: with a runtime of
//! its own, so that busy workers cost no leadership.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::election::{Candidate, Elected, Heard, Leader, Seen};
use super::leadership::Clock;
use crate::store::etcd::{Access, BadAccess, Endpoints, Names, look_at_etcd};

/// The time for a lease to be given back when the time of a stop is over.
const END: Duration = Duration::from_secs(1);

/// What a candidate is and wants.
pub(crate) struct Candidature {
    pub(crate) access: Access,
    pub(crate) names: Names,
    pub(crate) own: Leader,
    pub(crate) ttl: Duration,
    pub(crate) clock: Clock,
}

/// The thread has ended, so that this server would never lead nor know who does.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the thread that stands for election has ended")]
pub struct ElectionEnded;

/// One wish to lead.
struct Stand {
    /// `None`: not to lead, but to know who does.
    from: Option<Instant>,
    elected: oneshot::Sender<Elected>,
}

/// The thread. It ends, with its lease given back, when this is dropped.
pub(crate) struct Candidacy {
    stands: mpsc::Sender<Stand>,
    pub(crate) seen: watch::Receiver<Seen>,
    pub(crate) heard: Arc<Heard>,
    /// Whether it is in doubt that the leader renews its lease, by what node of etcd.
    pub(crate) doubts: watch::Receiver<Option<usize>>,
    ended: oneshot::Receiver<()>,
}

impl Candidacy {
    /// # Errors
    ///
    /// If the settings name no etcd, or the system gives no thread.
    pub(crate) fn start(candidature: Candidature) -> Result<Self, BadAccess> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let candidate = {
            let _within = runtime.enter();
            candidate(candidature)?
        };
        let heard = Arc::clone(&candidate.heard);
        let doubts = candidate.doubts.subscribe();
        let (stands, stood) = mpsc::channel(1);
        let (tells, seen) = watch::channel(Seen::default());
        let (end, ended) = oneshot::channel();
        spawn(move || {
            runtime.block_on(stand(candidate, stood, tells));
            // Nobody listens if the server has not waited.
            let _ = end.send(());
        })?;
        Ok(Self {
            stands,
            seen,
            heard,
            doubts,
            ended,
        })
    }

    /// Waits until this server leads: it stands for election from `from` on; never, if that is `None`. The end
    /// of that leadership has to be told to it, and then etcd hears of it. Cancel safe.
    ///
    /// # Errors
    ///
    /// If the thread has ended, which is a fault of its own.
    pub(crate) async fn until_elected(
        &self,
        from: Option<Instant>,
    ) -> Result<Elected, ElectionEnded> {
        let (elected, is_elected) = oneshot::channel();
        let stand = Stand { from, elected };
        self.stands.send(stand).await.map_err(|_| ElectionEnded)?;
        is_elected.await.map_err(|_| ElectionEnded)
    }

    /// Waits until the last lease is given back: until `deadline`, or for [`END`], at the most.
    pub(crate) async fn end(self, deadline: Instant) {
        drop(self.stands);
        let _ = timeout_at(deadline.max(Instant::now() + END), self.ended).await;
    }
}

fn candidate(candidature: Candidature) -> Result<Candidate, BadAccess> {
    let Candidature {
        access,
        names,
        own,
        ttl,
        clock,
    } = candidature;
    // Beside the election, which need not wait for it.
    let looked_at = access.clone();
    tokio::spawn(async move { look_at_etcd(&looked_at).await });
    let nodes = (Endpoints::new(&access, 0)?, Endpoints::new(&access, 1)?);
    Ok(Candidate::new(nodes, names, own, ttl, clock))
}

fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("election".to_owned());
    thread.spawn(run).map(drop)
}

async fn stand(
    mut candidate: Candidate,
    mut stood: mpsc::Receiver<Stand>,
    seen: watch::Sender<Seen>,
) {
    while let Some(Stand { from, mut elected }) = stood.recv().await {
        let won = tokio::select! {
            won = candidate.until_elected(&seen, from) => won,
            () = elected.closed() => continue,
        };
        seen.send_replace(candidate.own_turn(&won));
        if elected.send(won.clone()).is_ok() {
            candidate.keep(&won).await;
        }
        // It was the leader's before this one.
        candidate.doubts.send_replace(None);
        seen.send_replace(Seen::default());
        candidate.resign(&won).await;
    }
    candidate.withdraw().await;
}
