//! Who leads: the one whose name stands under one key in etcd, which lives as long as its lease.
//!
//! A candidate takes a fresh lease when the key is gone, and creates the key under it if nobody else has. That
//! is all: what a leader writes is conditional on the revision of that key, so that a mistake here could cost
//! time, but no lock.
//!
//! Invariants:
//!
//! 1. A lease's time is counted from before it was asked for, and so is a renewal's.
//! 2. A key with this run's name under a lease that is not known here is not led by: its lease is revoked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::leadership::{Clock, LONGEST_TTL, Leadership, Lost, millis};
use crate::store::etcd::{
    Endpoints, Failure, KeyValue, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, Names, RangeRequest, Term, TxnResponse, WatchCreateRequest,
    WatchRequest, create_if_absent, is_import,
};

/// How long a renewal may take.
const RENEWAL: Duration = Duration::from_millis(600);

/// How long a watch may be silent before the key is read: a node that is cut off tells nothing.
const SILENCE: Duration = Duration::from_secs(1);

/// How often somebody who does not stand for election looks whether another leads by now.
const LOOK: Duration = Duration::from_millis(50);

/// The same of the one who has just led: its clients are at the door.
const CLOSE_LOOK: Duration = Duration::from_millis(10);

/// How often in the time of its lease it is looked at whether the leader renews it.
const LOOKS_AT_LEASE: u32 = 8;

/// How soon the same leader may be doubted again: one that renews its lease late now and then is not helped by that.
const DOUBT_AGAIN: Duration = Duration::from_secs(30);

/// How long etcd may tell nothing before the log says so, and how often it does then.
const SILENT: Duration = Duration::from_secs(3);
const WARN_EVERY: Duration = Duration::from_secs(30);

/// How long a server does not stand for election after etcd has refused it.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// How many leases are remembered under which a key may have been created, by requests in doubt.
const LEASES: usize = 8;

/// A server that leads, as the others read it in etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leader {
    /// Tells this run of a server from all others.
    pub(crate) id: String,
    /// Where followers pass their clients on to.
    pub(crate) address: String,
    /// Whoever knows it there is a server of this cluster, and may say who its clients are.
    pub(crate) secret: String,
    /// Its version, for people.
    pub(crate) version: String,
    /// The time of its lease, by which those reckon who believe it.
    pub(crate) lead_ttl_ms: u64,
}

impl Leader {
    /// The time of its lease.
    pub(crate) fn lead_ttl(&self) -> Duration {
        Duration::from_millis(self.lead_ttl_ms).min(LONGEST_TTL)
    }
}

/// What a candidate knows of who leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) leader: Option<Leader>,
    /// The revision at which its key came to be.
    pub(crate) revision: i64,
    /// Whether no server, but an import has the key.
    pub(crate) is_import: bool,
}

impl Seen {
    /// What the leader's key says.
    pub(crate) fn of(key: &KeyValue) -> Self {
        Self {
            leader: serde_json::from_slice(&key.value).ok(),
            revision: key.create_revision,
            is_import: is_import(&key.value),
        }
    }
}

/// A server's leadership, from its election on.
#[derive(Debug, Clone)]
pub(crate) struct Elected {
    pub(crate) term: Term,
    pub(crate) leadership: Arc<Leadership>,
    lease: i64,
    /// The place in the list of the node of etcd that has answered.
    pub(crate) node: usize,
}

/// A server that would lead.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) nodes: Endpoints,
    /// Beside `nodes`, as a watch must not hold up a renewal.
    pub(crate) watched_nodes: Endpoints,
    pub(crate) names: Names,
    pub(crate) own: Leader,
    pub(crate) ttl: Duration,
    pub(crate) clock: Clock,
    /// Notes when etcd has told something.
    pub(crate) heard: Arc<Heard>,
    /// Tells when less than half of the leader's lease is left, which may soon be over: the place in the list of the
    /// node of etcd that has told so. It stays in doubt until it is renewed, or another leads.
    pub(crate) doubts: watch::Sender<Option<usize>>,
    /// The leases that were taken, and when they were asked for.
    leases: VecDeque<(i64, Duration)>,
}

/// When etcd has last told who leads, counted from when it was asked: what this server knows of that is not
/// older.
#[derive(Debug)]
pub(crate) struct Heard {
    clock: Clock,
    at_ms: AtomicU64,
    /// When the log last said that etcd refuses an election; 0 if it never did.
    refused_at_ms: AtomicU64,
    /// When the log last said that it tells nothing; 0 if it has told something since then.
    warned_at_ms: AtomicU64,
}

impl Heard {
    pub(crate) fn new(clock: Clock) -> Self {
        let heard = Self {
            clock,
            at_ms: AtomicU64::new(0),
            refused_at_ms: AtomicU64::new(0),
            warned_at_ms: AtomicU64::new(0),
        };
        heard.note(clock());
        heard
    }

    /// Notes an answer to what was asked at that time, which all of this server know by now.
    pub(super) fn note(&self, asked_at: Duration) {
        self.at_ms.fetch_max(millis(asked_at), Ordering::AcqRel);
        if self.warned_at_ms.swap(0, Ordering::Relaxed) > 0 {
            info!("etcd answers again");
        }
    }

    /// Notes that etcd has told nothing, and says so if that lasts.
    fn failed(&self, why: &Failure) {
        debug!("etcd does not tell who leads: {why}");
        let (age, now) = (self.age(), millis((self.clock)()));
        let warned_at = self.warned_at_ms.load(Ordering::Relaxed);
        if age >= SILENT && now >= warned_at + millis(WARN_EVERY) {
            self.warned_at_ms.store(now, Ordering::Relaxed);
            let secs = age.as_secs();
            warn!("etcd has not told for {secs} s who leads: {why}");
        }
    }

    /// Notes that etcd refuses an election, and says so now and then.
    fn refused(&self, why: &Failure) {
        let now = millis((self.clock)());
        let warned_at = self.refused_at_ms.load(Ordering::Relaxed);
        if warned_at == 0 || now >= warned_at + millis(WARN_EVERY) {
            self.refused_at_ms.store(now, Ordering::Relaxed);
            warn!("this server cannot be elected: {why}");
        }
    }

    /// How long ago that was.
    pub(crate) fn age(&self) -> Duration {
        let at = Duration::from_millis(self.at_ms.load(Ordering::Acquire));
        (self.clock)().saturating_sub(at)
    }
}

impl Candidate {
    pub(crate) fn new(
        (nodes, watched_nodes): (Endpoints, Endpoints),
        names: Names,
        own: Leader,
        ttl: Duration,
        clock: Clock,
    ) -> Self {
        Self {
            nodes,
            watched_nodes,
            names,
            own,
            ttl,
            clock,
            heard: Arc::new(Heard::new(clock)),
            doubts: watch::Sender::new(None),
            leases: VecDeque::new(),
        }
    }

    /// Waits until this server leads, and tells meanwhile who does. It stands for election from `from` on; never,
    /// if that is `None`. Cancel safe, but for a lease that [`Candidate::withdraw`] gives back.
    pub(crate) async fn until_elected(
        &mut self,
        seen: &watch::Sender<Seen>,
        from: Option<Instant>,
    ) -> Elected {
        loop {
            let asked_at = (self.clock)();
            let found = match find_leader(&mut self.nodes, &self.names).await {
                Ok((found, _)) => found,
                Err(why) => {
                    self.heard.failed(&why);
                    continue;
                }
            };
            let elected = match found {
                Some(found) if self.is_own(&found) => self.adopt(found).await,
                Some(found) => {
                    seen.send_replace(Seen::of(&found));
                    self.heard.note(asked_at);
                    let revision = found.create_revision;
                    let gone =
                        until_gone(&mut self.watched_nodes, &self.names, revision, &self.heard);
                    // Nothing is to be read while an import writes, nor for a key that stays.
                    let may_be_next = from.is_some() && seen.borrow().leader.is_some();
                    let lease = Some(found.lease).filter(|lease| may_be_next && *lease != 0);
                    tokio::select! {
                        () = gone => {}
                        never = look_at_lease(&mut self.nodes, lease, self.ttl, &self.doubts) => match never {},
                    }
                    None
                }
                None => {
                    seen.send_replace(Seen::default());
                    self.heard.note(asked_at);
                    match from {
                        Some(from) if from <= Instant::now() => self.campaign().await,
                        _ => {
                            let look = from.map_or(LOOK, |_| CLOSE_LOOK);
                            tokio::time::sleep(look).await;
                            None
                        }
                    }
                }
            };
            if let Some(elected) = elected {
                return elected;
            }
        }
    }

    fn is_own(&self, found: &KeyValue) -> bool {
        let leader = Seen::of(found).leader;
        leader.is_some_and(|leader| leader.id == self.own.id)
    }

    /// Leads by a key that an attempt in doubt has created.
    async fn adopt(&mut self, found: KeyValue) -> Option<Elected> {
        let known = self.leases.iter().find(|(lease, _)| *lease == found.lease);
        match known.copied() {
            Some((lease, asked_at)) => {
                let term = Term {
                    revision: found.create_revision,
                    value: found.value,
                };
                Some(self.elected(term, lease, asked_at))
            }
            None => {
                self.revoke(found.lease).await;
                None
            }
        }
    }

    /// Tries to create the key, under a fresh lease.
    async fn campaign(&mut self) -> Option<Elected> {
        let asked_at = (self.clock)();
        let request = LeaseGrantRequest {
            ttl: i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX),
        };
        let granted = self.nodes.unary(request).await;
        let lease = granted.inspect_err(|why| self.heard.refused(why)).ok()?.id;
        if self.leases.len() == LEASES {
            self.leases.pop_front();
        }
        self.leases.push_back((lease, asked_at));
        let value = Bytes::from(serde_json::to_vec(&self.own).unwrap_or_default());
        let request = create_if_absent(self.names.leader(), value.clone(), lease);
        let done = self.nodes.unary(request).await;
        match done {
            Ok(TxnResponse {
                succeeded: true,
                header: Some(header),
                ..
            }) => {
                let revision = header.revision;
                Some(self.elected(Term { revision, value }, lease, asked_at))
            }
            Ok(done) if !done.succeeded => {
                self.revoke(lease).await;
                None
            }
            // Without a header, it is looked at as one that has brought no answer.
            Ok(_) => None,
            Err(why @ Failure::Refused(_)) => {
                self.heard.refused(&why);
                self.revoke(lease).await;
                tokio::time::sleep(AFTER_REFUSAL).await;
                None
            }
            // It may have been done: then the key says so.
            Err(why) => {
                debug!("the election is in doubt: {why}");
                None
            }
        }
    }

    /// What the others see while this server leads.
    pub(crate) fn own_turn(&self, elected: &Elected) -> Seen {
        Seen {
            leader: Some(self.own.clone()),
            revision: elected.term.revision,
            is_import: false,
        }
    }

    fn elected(&self, term: Term, lease: i64, asked_at: Duration) -> Elected {
        info!(term = term.revision, "elected");
        Elected {
            term,
            leadership: Arc::new(Leadership::new(self.clock, self.ttl, asked_at)),
            lease,
            node: self.nodes.place(),
        }
    }

    /// Renews the lease until the leadership is over, for whatever reason.
    pub(crate) async fn keep(&mut self, elected: &Elected) -> Lost {
        let leadership = &elected.leadership;
        let renew = async {
            loop {
                renew(&mut self.nodes, elected, self.clock).await;
                tokio::time::sleep(self.ttl / 4).await;
            }
        };
        let revision = elected.term.revision;
        let gone = until_gone(&mut self.watched_nodes, &self.names, revision, &self.heard);
        tokio::select! {
            () = renew => {}
            () = gone => leadership.lose(Lost::Deposed),
            _ = leadership.until_lost() => {}
        }
        leadership.until_lost().await
    }

    /// Lets others lead at once. Nothing may be answered by this leadership any more.
    pub(crate) async fn resign(&mut self, elected: &Elected) {
        elected.leadership.lose(Lost::Resigned);
        self.revoke(elected.lease).await;
    }

    /// Gives back what an election may have left that was not waited for.
    pub(crate) async fn withdraw(&mut self) {
        while let Some(&(lease, _)) = self.leases.front() {
            self.revoke(lease).await;
        }
    }

    /// If it does not succeed, the lease ends by itself.
    async fn revoke(&mut self, lease: i64) {
        self.leases.retain(|(known, _)| *known != lease);
        let revoked = self.nodes.unary(LeaseRevokeRequest { id: lease }).await;
        if let Err(why) = revoked {
            debug!("a lease could not be revoked: {why}");
        }
    }
}

/// One renewal. Whether it succeeds or not, the caller goes on.
async fn renew(nodes: &mut Endpoints, elected: &Elected, clock: Clock) {
    let sent_at = clock();
    let request = LeaseKeepAliveRequest { id: elected.lease };
    let renewed = async {
        let mut answers = nodes.streaming(request).await?;
        nodes.message(&mut answers, RENEWAL).await
    };
    match renewed.await {
        Ok(Some(renewed)) if renewed.ttl > 0 => elected.leadership.renewed(sent_at),
        Ok(Some(_)) => elected.leadership.lose(Lost::LeaseOver),
        Ok(None) => {
            warn!(
                "the lease was not renewed within {} ms",
                RENEWAL.as_millis()
            );
            nodes.next();
        }
        Err(why) => warn!("the lease could not be renewed: {why}"),
    }
}

/// Looks again and again whether the leader renews its lease, if it has one, and tells whether that is in doubt.
async fn look_at_lease(
    nodes: &mut Endpoints,
    lease: Option<i64>,
    mut ttl: Duration,
    doubts: &watch::Sender<Option<usize>>,
) -> Infallible {
    let Some(id) = lease else {
        doubts.send_replace(None);
        return std::future::pending().await;
    };
    let mut again_from = Instant::now();
    loop {
        // What etcd does not tell, also of a lease that is over, is in no more doubt than before.
        if let Ok(lease) = nodes.unary(LeaseTimeToLiveRequest { id }).await
            && lease.granted_ttl > 0
        {
            let is_in_doubt = 2 * (lease.ttl + 1) <= lease.granted_ttl;
            let (was_in_doubt, now) = (doubts.borrow().is_some(), Instant::now());
            if was_in_doubt && !is_in_doubt {
                doubts.send_replace(None);
            } else if is_in_doubt && !was_in_doubt && now >= again_from {
                doubts.send_replace(Some(nodes.place()));
                again_from = now + DOUBT_AGAIN;
            }
            ttl = Duration::from_secs(lease.granted_ttl.unsigned_abs()).min(LONGEST_TTL);
        }
        tokio::time::sleep(ttl / LOOKS_AT_LEASE).await;
    }
}

/// Who leads, by a linearizable read, and the revision at which etcd is.
async fn find_leader(
    nodes: &mut Endpoints,
    names: &Names,
) -> Result<(Option<KeyValue>, i64), Failure> {
    let request = RangeRequest {
        key: names.leader(),
        ..RangeRequest::default()
    };
    let found = nodes.unary(request).await?;
    let no_header = || Failure::InDoubt("an answer has no header".to_owned());
    let revision = found.header.ok_or_else(no_header)?.revision;
    Ok((found.kvs.into_iter().next(), revision))
}

/// Waits until the leader's key that came to be at this revision is not there any more.
async fn until_gone(nodes: &mut Endpoints, names: &Names, revision: i64, heard: &Heard) {
    // Not from the key's own revision on, whose history is compacted after a while.
    while let Some(newest) = still_leads(nodes, names, revision, heard).await {
        let Some(newest) = newest else { continue };
        let create_request = WatchCreateRequest {
            key: names.leader(),
            start_revision: newest + 1,
        };
        let request = WatchRequest {
            create_request: Some(create_request),
        };
        let mut changes = match nodes.streaming(request).await {
            Ok(changes) => changes,
            // Whether it may be watched or not, the key can be read.
            Err(why) => {
                heard.failed(&why);
                continue;
            }
        };
        loop {
            match nodes.message(&mut changes, SILENCE).await {
                Ok(Some(change)) if change.canceled => break,
                // What has changed, or whether a node is cut off and therefore silent, the key tells.
                Ok(_) => {}
                Err(why) => {
                    debug!("the leader's key is not watched any more: {why}");
                    break;
                }
            }
            if still_leads(nodes, names, revision, heard).await.is_none() {
                return;
            }
        }
    }
}

/// The revision at which etcd is, as long as the leader's key is the one that came to be at this revision; `None`
/// once it is not. Within, `None` if etcd does not tell.
async fn still_leads(
    nodes: &mut Endpoints,
    names: &Names,
    revision: i64,
    heard: &Heard,
) -> Option<Option<i64>> {
    let asked_at = (heard.clock)();
    match find_leader(nodes, names).await {
        Ok((Some(found), newest)) if found.create_revision == revision => {
            heard.note(asked_at);
            Some(Some(newest))
        }
        // It is noted once it was told.
        Ok(_) => None,
        Err(why) => {
            heard.failed(&why);
            Some(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::super::leadership::{Answering, since_boot};
    use super::super::real_etcd::RealEtcd;
    use super::*;
    use crate::store::etcd::Access;

    const SOON: Duration = Duration::from_secs(30);

    /// No lease of this time ends within a test.
    const LONG: Duration = Duration::from_secs(60);

    fn candidate(access: &Access, id: &str, ttl: Duration) -> Candidate {
        let nodes = || Endpoints::new(access, 0).expect("a URL");
        let own = Leader {
            id: id.to_owned(),
            address: format!("{id}:11401"),
            secret: "secret".to_owned(),
            version: "0".to_owned(),
            lead_ttl_ms: 2000,
        };
        Candidate::new(
            (nodes(), nodes()),
            Names::below("/elock"),
            own,
            ttl,
            since_boot,
        )
    }

    /// Waits until this one is elected.
    async fn elected(candidate: &mut Candidate) -> (Elected, watch::Receiver<Seen>) {
        let (seen, sees) = watch::channel(Seen::default());
        let elected = timeout(SOON, candidate.until_elected(&seen, Some(Instant::now()))).await;
        (elected.expect("an election"), sees)
    }

    #[tokio::test]
    async fn one_leads_until_it_resigns_or_its_lease_ends() {
        let Some(etcd) = RealEtcd::start() else {
            return;
        };
        let mut a = candidate(&etcd.access, "a", LONG);
        let mut b = candidate(&etcd.access, "b", Duration::from_secs(2));
        let mut c = candidate(&etcd.access, "c", LONG);
        let (first, _) = elected(&mut a).await;
        assert_eq!(first.leadership.answering(), Answering::Yes);
        let (seen, mut sees) = watch::channel(Seen::default());
        let follower = async {
            let knows_a = |seen: &Seen| seen.leader.as_ref() == Some(&a.own.clone());
            sees.wait_for(knows_a).await.expect("it looks");
            a.resign(&first).await;
        };
        let (second, ()) = tokio::join!(
            timeout(SOON, b.until_elected(&seen, Some(Instant::now()))),
            follower
        );
        let second = second.expect("an election");
        assert_eq!(first.leadership.answering(), Answering::Over);
        assert!(second.term.revision > first.term.revision);
        // It is not renewed any more.
        let (third, _) = elected(&mut c).await;
        assert!(third.term.revision > second.term.revision);
        assert_ne!(second.leadership.answering(), Answering::Yes);
        // By the key or by the lease, whichever is looked at first.
        let lost = b.keep(&second).await;
        assert!(matches!(lost, Lost::Deposed | Lost::LeaseOver), "{lost}");
    }

    #[tokio::test]
    async fn a_lease_that_is_not_renewed_is_in_doubt_before_it_is_over() {
        let Some(etcd) = RealEtcd::start() else {
            return;
        };
        let mut nodes = Endpoints::new(&etcd.access, 0).expect("a URL");
        let (tells, mut doubts) = watch::channel(Some(7));
        for (ttl, is_in_doubt) in [(60, false), (5, true)] {
            let lease = nodes.unary(LeaseGrantRequest { ttl }).await;
            let id = lease.expect("it answers").id;
            let known = async {
                let is_told = |doubt: &Option<usize>| doubt.is_some() == is_in_doubt;
                doubts.wait_for(is_told).await.expect("it looks");
            };
            tokio::select! {
                () = known => {}
                never = look_at_lease(&mut nodes, Some(id), LONG, &tells) => match never {},
                () = tokio::time::sleep(SOON) => panic!("{is_in_doubt} does not come"),
            }
        }
    }

    #[tokio::test]
    async fn a_lease_that_is_renewed_stays() {
        let Some(etcd) = RealEtcd::start() else {
            return;
        };
        // It is renewed every fourth part of that.
        let ttl = Duration::from_secs(12);
        let [mut a, mut b] = ["a", "b"].map(|id| candidate(&etcd.access, id, ttl));
        let (first, _) = elected(&mut a).await;
        let asked_at = first.leadership.last_renewal();
        let renewals = async {
            first.leadership.until_renewed().await;
            first.leadership.until_renewed().await;
        };
        let (seen, _sees) = watch::channel(Seen::default());
        tokio::select! {
            lost = a.keep(&first) => panic!("{lost}"),
            _ = b.until_elected(&seen, Some(Instant::now())) => panic!("it has taken over"),
            () = renewals => {}
        }
        assert!(first.leadership.last_renewal() > asked_at);
        assert_eq!(first.leadership.answering(), Answering::Yes);
    }
}
