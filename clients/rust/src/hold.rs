//! One lock that a guard stands for, and for how long it can be believed held.
//!
//! 1. A lock is believed held until the earlier of two moments, less the margin: the end of its lease,
//!    counted from before the request that began or renewed it was sent; and, for a lock of a session,
//!    the end of a grace period that began right before the last answered request was sent. The server
//!    cannot have ended it sooner: it got the request later than that was sent, and no disconnect can
//!    have come before it.
//! 2. Lost is for ever: a lock that was once called lost is not called held again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Moment;
use crate::error::Loss;
use crate::session::Vital;
use crate::word::{BadWord, Line};

#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) key: Vec<u8>,
    pub(crate) owner: Option<Vec<u8>>,
    /// Nobody else uses the owner's word.
    is_unique: bool,
    pub(crate) token: u64,
    /// What was asked for.
    lease: Option<Duration>,
    margin: Duration,
    lease_ends: AtomicU64,
    renew_at: AtomicU64,
    /// How many requests were sent that change the lease.
    expires: AtomicU64,
    vital: Arc<Vital>,
    /// One for all locks of a guard.
    loss: Losing,
}

/// Where a guard learns that it is lost.
pub(crate) type Losing = Arc<watch::Sender<Option<Loss>>>;

/// A request that gives a lock a lease, and may have been done or not until it is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Renewal {
    number: u64,
    lease: Duration,
}

impl Hold {
    /// `sent`: from before the request was sent by which the lease began.
    pub(crate) fn new(
        key: Vec<u8>,
        owner: Option<Vec<u8>>,
        token: u64,
        lease: Option<Duration>,
        sent: Moment,
        vital: Arc<Vital>,
        loss: Losing,
    ) -> Self {
        let hold = Self {
            key,
            owner,
            is_unique: false,
            token,
            lease,
            margin: vital.options.margin,
            lease_ends: AtomicU64::new(Moment::NEVER.0),
            renew_at: AtomicU64::new(Moment::NEVER.0),
            expires: AtomicU64::new(0),
            vital,
            loss,
        };
        if let Some(lease) = hold.lease() {
            hold.begin(sent, lease);
        }
        hold
    }

    /// Of an owner whose word nobody else uses, if so.
    pub(crate) fn by_unique_word(mut self, is_unique: bool) -> Self {
        self.is_unique = is_unique;
        self
    }

    /// The lock's lease, as the server gives it.
    pub(crate) fn lease(&self) -> Option<Duration> {
        self.vital.lease_of(self.lease)
    }

    /// Right before a request is sent that sets the lease. Until it is answered, the lease ends by what
    /// was so before, or by what it sets, whichever is earlier.
    pub(crate) fn renewing(&self, lease: Duration) -> Renewal {
        let ends = Moment::now().plus(lease);
        self.lease_ends.fetch_min(ends.0, Ordering::SeqCst);
        self.renew_at.store(Moment::NEVER.0, Ordering::SeqCst);
        let number = self.expires.fetch_add(1, Ordering::SeqCst) + 1;
        Renewal { number, lease }
    }

    /// It was done. If another was sent since, that one counts.
    pub(crate) fn renewed(&self, renewal: Renewal, sent: Moment) {
        if self.expires.load(Ordering::SeqCst) == renewal.number {
            self.begin(sent, renewal.lease);
        }
    }

    fn begin(&self, sent: Moment, lease: Duration) {
        self.lease_ends.store(sent.plus(lease).0, Ordering::SeqCst);
        let third = sent.plus(self.lease().unwrap_or(lease) / 3);
        self.renew_at.store(third.0, Ordering::SeqCst);
    }

    pub(crate) fn renew_at(&self) -> Moment {
        Moment(self.renew_at.load(Ordering::SeqCst))
    }

    pub(crate) fn set_renew_at(&self, at: Moment) {
        self.renew_at.store(at.0, Ordering::SeqCst);
    }

    /// When its lease is over, as far as is known, less the margin.
    fn lease_believed_until(&self) -> Moment {
        self.lease().map_or(Moment::NEVER, |lease| {
            let ends = Moment(self.lease_ends.load(Ordering::SeqCst));
            ends.minus(self.margin.min(lease / 2))
        })
    }

    /// Invariant 1.
    pub(crate) fn believed_until(&self) -> Moment {
        let lease = self.lease_believed_until();
        match self.owner {
            Some(_) => lease,
            None => {
                let grace = self.vital.options.grace;
                let session = self.vital.confirmed().plus(grace);
                lease.min(session.minus(self.margin.min(grace / 2)))
            }
        }
    }

    /// Whether its release by the owner word, sent now, can hit another's lock of the same word: its
    /// lease may be over, or it may have been released already by an attempt whose answer was lost. Without
    /// a lease it is released all the same, since nothing else ends it.
    pub(crate) fn is_anothers_by_now(&self, is_again: bool) -> bool {
        self.owner.is_some()
            && !self.is_unique
            && self.lease().is_some()
            && (is_again || Moment::now() >= self.lease_believed_until())
    }

    /// Whether another lock of the same guard.
    pub(crate) fn is_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.loss, &other.loss)
    }

    /// Why it is lost, if it is.
    pub(crate) fn loss(&self) -> Option<Loss> {
        *self.loss.borrow()
    }

    /// Whether it is held, as far as anyone can know here and now.
    pub(crate) fn is_held(&self) -> bool {
        self.loss().is_none() && Moment::now() < self.believed_until()
    }

    /// For how long it is surely held by what is known now.
    pub(crate) fn remaining(&self) -> Duration {
        match self.loss() {
            Some(_) => Duration::ZERO,
            None => self.believed_until().after(Moment::now()),
        }
    }

    /// Invariant 2. False: it was lost before.
    pub(crate) fn lose(&self, why: Loss) -> bool {
        self.loss.send_if_modified(|loss| {
            let is_first = loss.is_none();
            loss.get_or_insert(why);
            is_first
        })
    }

    /// What its belief has run out by.
    pub(crate) fn lapse(&self) -> Loss {
        match Moment::now() >= self.lease_believed_until() {
            true => Loss::LeaseEnded,
            false => Loss::NotResumed,
        }
    }

    /// Ready when it is lost.
    pub(crate) async fn lost(self: Arc<Self>) -> Loss {
        let mut changes = self.loss.subscribe();
        loop {
            if let Some(loss) = *changes.borrow_and_update() {
                return loss;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(crate) fn unlock_line(&self) -> Result<Line, BadWord> {
        unlock_line(&self.key, self.owner.as_deref())
    }
}

pub(crate) fn unlock_line(key: &[u8], owner: Option<&[u8]>) -> Result<Line, BadWord> {
    Line::new("unlock").word(key)?.optional(owner)?.end()
}
