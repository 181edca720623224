//! Changes on their way to the store: the table orders them, and one thread writes them.
//!
//! Changes collect while the commit before is under way, so that one sync serves all connections
//! that came meanwhile. If a commit fails, each connection that waits for it is told, and its
//! changes stay, to be part of the next commit.
//!
//! Invariants:
//!
//! 1. A change is part of the commit whose number it got, or of a later one if that fails. So once
//!    a number is durable, all changes up to it are.
//! 2. A number that is durable stays so. A number that is not may become durable, also after its
//!    commit has failed.
//! 3. A change that was refused because its commit failed is written as soon as the store works
//!    again, although no connection waits for it any more.
//! 4. A change that comes after the last commit gets a number that never becomes durable.
//! 5. A last commit without changes is not made where it would have to be confirmed: whoever waits for it is refused.
//!
//! While the disk is full, requests that need room are refused beforehand, and all others go on. What a
//! release grants needs room as well. If there is too little, the grants are not stored, and nobody is
//! told of them; releases are accepted also then, as each of such a grant takes it out of the batch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::overdue::{OVERDUE, UnderWay};
use super::{Batch, Storage};
use crate::count::{Counter, Durations, Histogram};
use crate::model::{Change, NotStored, Seq};

/// How long a store that has just failed is not tried again, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// How often a full disk is looked at.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);

/// Why a request is refused while the disk is full.
const FULL: &str = "the disk is full: releases are stored, and nothing new is";

/// How long a commit may wait for more connections, however long the last commit took.
const LONGEST_GATHERING: Duration = Duration::from_millis(1);

/// Takes the changes of state for the store. Without a store it drops them, and every change counts
/// as durable.
#[derive(Debug, Clone, Default)]
pub struct Changes(Option<Arc<Queue>>);

/// Whether a request needs room on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It adds something.
    Needed,
    /// It ends something, or changes what is there.
    NotNeeded,
}

/// The thread that writes. [`Writer::finish`] ends it, with everything written.
#[derive(Debug)]
pub struct Writer {
    queue: Arc<Queue>,
    /// `None` once it is waited for.
    thread: Option<JoinHandle<()>>,
}

/// Has the thread end also where nobody waits for that.
impl Drop for Writer {
    fn drop(&mut self) {
        let mut collecting = self.queue.collecting();
        collecting.finish = true;
        self.queue.wake_writer(collecting);
    }
}

#[derive(Debug)]
struct Queue {
    collecting: Mutex<Collecting>,
    /// Notified when there is work for a writer that waits.
    work: Condvar,
    durable: AtomicU64,
    /// The number of the last commit; `u64::MAX` as long as that is not known.
    last: AtomicU64,
    under_way: UnderWay,
    /// How long commits took that changed something, also those that failed.
    times: Histogram,
    /// Commits that failed.
    failures: Counter,
    /// How many bytes the storage took after the last commit.
    bytes: AtomicU64,
    /// How many entries of a log these were.
    entries: AtomicU64,
    /// Whether what is durable has to be confirmed before it is told.
    must_confirm: bool,
    /// Whether the last commit failed.
    failing: AtomicBool,
    /// Whether there is room for no more than what ends.
    full: AtomicBool,
    /// Why the last failed commit failed.
    reason: Mutex<NotStored>,
    /// How often a full disk is looked at.
    look_for_room: Duration,
    /// Notified when a commit with an even number, or with an odd one, has ended. The writer is
    /// never more than one commit behind the one that collects, so each waiting connection is woken
    /// once.
    done: [Notify; 2],
}

#[derive(Debug)]
struct Collecting {
    /// The number of the commit that these changes will be part of.
    seq: u64,
    changes: Vec<Change>,
    /// How many calls want this commit.
    wanted_by: usize,
    /// At how many of them the writer begins, if it waits.
    enough: usize,
    writer_waits: bool,
    finish: bool,
    /// Whether changes came after the last commit.
    came_late: bool,
}

impl Changes {
    /// Starts the thread that gives the changes to `storage`.
    ///
    /// # Errors
    ///
    /// When the system starts no thread.
    pub fn to(storage: impl Storage) -> std::io::Result<(Self, Writer)> {
        Self::start(storage, LOOK_FOR_ROOM)
    }

    fn start(storage: impl Storage, look_for_room: Duration) -> std::io::Result<(Self, Writer)> {
        let queue = Arc::new(Queue::new(storage.must_confirm(), look_for_room));
        queue.note_room(storage.has_room());
        let (writing, watching) = (Arc::clone(&queue), Arc::clone(&queue));
        std::thread::Builder::new()
            .name("store-watch".to_owned())
            .spawn(move || watching.watch())?;
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writing.write_to(storage))
            .inspect_err(|_| queue.under_way.finish())?;
        let writer = Writer {
            queue: Arc::clone(&queue),
            thread: Some(thread),
        };
        Ok((Self(Some(queue)), writer))
    }

    /// Whether there is a store.
    pub fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Hands in the change that `change` makes, behind all that were handed in before. Does not
    /// wait for the store, and may be called under a guard. The change is written when a caller
    /// wants its number or a later one written. After the last commit it is not written, and its
    /// number does not become durable.
    pub fn push(&self, change: impl FnOnce() -> Change) -> Seq {
        let Some(queue) = &self.0 else {
            return Seq::default();
        };
        let change = change();
        let mut collecting = queue.collecting();
        queue.collect(&mut collecting, [change]);
        Seq(collecting.seq)
    }

    /// How many commits there were since the start, and how many bytes the store takes.
    pub fn commits_and_bytes(&self) -> (u64, u64) {
        self.0.as_ref().map_or((0, 0), |queue| {
            let commits = queue.durable.load(Ordering::Acquire);
            (commits, queue.bytes.load(Ordering::Relaxed))
        })
    }

    /// How many entries of a log the store has; 0 of one that is no log.
    #[cfg(all(feature = "admin", feature = "cluster"))]
    pub(crate) fn log_entries(&self) -> u64 {
        let queue = self.0.as_ref();
        queue.map_or(0, |queue| queue.entries.load(Ordering::Relaxed))
    }

    /// Hands in changes that are part of one commit, in their order.
    pub fn push_all(&self, changes: impl Iterator<Item = Change>) -> Seq {
        let Some(queue) = &self.0 else {
            return Seq::default();
        };
        let changes: Vec<Change> = changes.collect();
        if changes.is_empty() {
            return Seq::default();
        }
        let mut collecting = queue.collecting();
        queue.collect(&mut collecting, changes);
        Seq(collecting.seq)
    }

    /// The number of the commit that the next change will be part of: once it is durable, all
    /// changes handed in so far are.
    pub fn last(&self) -> Seq {
        Seq(self.0.as_ref().map_or(0, |queue| queue.last()))
    }

    /// The last number up to which all changes are on disk.
    pub fn durable_up_to(&self) -> Seq {
        let durable = |queue: &Arc<Queue>| queue.durable.load(Ordering::Acquire);
        Seq(self.0.as_ref().map_or(u64::MAX, durable))
    }

    /// The number of a commit that begins later than now, where others may come to store in this server's
    /// place: once it is durable, nobody had come until now. Zero where nobody can.
    pub fn confirmation(&self) -> Seq {
        match &self.0 {
            Some(queue) if queue.must_confirm => Seq(queue.last()),
            _ => Seq::default(),
        }
    }

    /// Has everything up to `seq` written, without waiting for it.
    pub fn write(&self, seq: Seq) {
        if let Some(queue) = &self.0 {
            queue.want(seq);
        }
    }

    /// Waits until everything up to `seq` is on disk. Cancel safe.
    ///
    /// # Errors
    ///
    /// When the commit of `seq` failed, or the store fails before it. The changes are still there,
    /// and may become durable later.
    pub async fn durable(&self, seq: Seq) -> Result<(), NotStored> {
        match &self.0 {
            Some(queue) if seq > self.durable_up_to() => queue.until_decided(seq).await,
            _ => Ok(()),
        }
    }

    /// Whether a change can be made at this time. Asked before a client's request; grants and
    /// sessions that end by themselves end without asking.
    ///
    /// # Errors
    ///
    /// The reason, if the last commit failed, or the disk is full and the change needs room. While it is
    /// full, changes that need none are accepted also after a failure: they may be what ends it. Once
    /// the last commit has not failed, all changes that were refused before are durable or about to be.
    pub fn accept(&self, room: Room) -> Result<(), NotStored> {
        let refusal = match room {
            Room::Needed => self.refusal(),
            Room::NotNeeded => {
                let queue = self.0.as_ref().filter(|queue| !queue.is_full());
                queue.and_then(|queue| queue.failure())
            }
        };
        refusal.map_or(Ok(()), Err)
    }

    /// The reason why some or all changes cannot be made at this time; `None` if all can.
    pub fn refusal(&self) -> Option<NotStored> {
        let queue = self.0.as_ref()?;
        let full = || queue.is_full().then(|| NotStored::new(FULL));
        queue.failure().or_else(full)
    }

    /// How long commits took that changed something, also those that failed; and how many failed.
    pub fn commit_times(&self) -> (Durations, u64) {
        let times = |queue: &Queue| (queue.times.durations(), queue.failures.get());
        let none = || (Histogram::default().durations(), 0);
        self.0.as_deref().map_or_else(none, times)
    }

    /// For how long a commit has been under way that takes far too long; `None` if none does.
    pub fn overdue(&self) -> Option<Duration> {
        self.0.as_ref()?.under_way.overdue(OVERDUE)
    }
}

impl Writer {
    /// Writes the remaining changes and ends the thread. Blocks as long as the storage does.
    /// Changes that are handed in too late are not stored: waiting for them is an error at once.
    ///
    /// # Errors
    ///
    /// When something could not be written.
    pub fn finish(mut self) -> Result<(), NotStored> {
        let (queue, thread) = (Arc::clone(&self.queue), self.thread.take());
        drop(self);
        if thread.is_some_and(|thread| thread.join().is_err()) {
            return Err(NotStored::new("the store's thread panicked"));
        }
        queue.failure().map_or(Ok(()), Err)
    }
}

impl Queue {
    fn new(must_confirm: bool, look_for_room: Duration) -> Self {
        Self {
            must_confirm,
            look_for_room,
            collecting: Mutex::new(Collecting {
                seq: 1,
                changes: Vec::new(),
                wanted_by: 0,
                enough: 1,
                writer_waits: false,
                finish: false,
                came_late: false,
            }),
            work: Condvar::new(),
            durable: AtomicU64::new(0),
            last: AtomicU64::new(u64::MAX),
            under_way: UnderWay::default(),
            times: Histogram::default(),
            failures: Counter::default(),
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            full: AtomicBool::new(false),
            reason: Mutex::new(NotStored::new("")),
            done: [Notify::new(), Notify::new()],
        }
    }

    fn collecting(&self) -> MutexGuard<'_, Collecting> {
        lock(&self.collecting)
    }

    /// Whether changes that are handed in from now on come too late; `seq` is the commit that
    /// collects.
    fn has_ended_before(&self, seq: u64) -> bool {
        seq > self.last.load(Ordering::Acquire)
    }

    fn collect(&self, collecting: &mut Collecting, changes: impl IntoIterator<Item = Change>) {
        if self.has_ended_before(collecting.seq) {
            collecting.came_late = true;
        } else {
            collecting.changes.extend(changes);
        }
    }

    fn last(&self) -> u64 {
        let collecting = self.collecting();
        match self.has_ended_before(collecting.seq) && !collecting.came_late {
            true => collecting.seq - 1,
            false => collecting.seq,
        }
    }

    fn want(&self, seq: Seq) {
        let mut collecting = self.collecting();
        if collecting.seq == seq.0 {
            collecting.wanted_by += 1;
            if collecting.wanted_by == collecting.enough {
                self.wake_writer(collecting);
            }
        }
    }

    fn wake_writer(&self, collecting: MutexGuard<'_, Collecting>) {
        let waits = collecting.writer_waits;
        drop(collecting);
        if waits {
            self.work.notify_one();
        }
    }

    async fn until_decided(&self, seq: Seq) -> Result<(), NotStored> {
        let done = self.done(seq.0);
        loop {
            // Made before the outcome is read, so that the end of a commit in between is not
            // missed.
            let decided = done.notified();
            let outcome = self.outcome(seq);
            if !matches!(outcome, Some(Ok(()))) {
                // A refused change is wanted, too: it is written when the store works again.
                self.want(seq);
            }
            if let Some(outcome) = outcome {
                return outcome;
            }
            decided.await;
        }
    }

    fn done(&self, seq: u64) -> &Notify {
        &self.done[usize::from(seq % 2 == 1)]
    }

    /// The outcome of `seq`; `None` as long as it is open. While the store fails it is a refusal at
    /// once, not after the next try.
    fn outcome(&self, seq: Seq) -> Option<Result<(), NotStored>> {
        // The failure is read first: changes that have become durable since then count as durable.
        let failure = self.failure();
        if seq.0 <= self.durable.load(Ordering::Acquire) {
            return Some(Ok(()));
        }
        if self.has_ended_before(seq.0) {
            return Some(Err(NotStored::new("the server has stopped")));
        }
        failure.map(Err)
    }

    /// Why the last commit failed, if it did.
    fn failure(&self) -> Option<NotStored> {
        let failing = self.failing.load(Ordering::Acquire);
        failing.then(|| lock(&self.reason).clone())
    }

    fn note_size(&self, storage: &impl Storage) {
        self.bytes.store(storage.bytes(), Ordering::Relaxed);
        self.entries
            .store(storage.entries() as u64, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    fn write_to(&self, mut storage: impl Storage) {
        self.note_size(&storage);
        let mut batch = Batch::default();
        let mut pace = Pace::default();
        let mut looked_for_room = Instant::now();
        loop {
            let taken = self.take(&pace);
            for change in taken.changes {
                batch.add(change);
            }
            if taken.finish && batch.is_empty() && self.must_confirm {
                return self.finish_with_nothing(taken.seq);
            }
            let (outcome, took) = self.watched(|| commit(&mut storage, &batch));
            if !batch.is_empty() {
                self.times.add(took);
            }
            let is_over = storage.is_over();
            pace.after(&outcome, took, taken.wanted_by, (batch.len(), is_over));
            self.note_room(storage.has_room());
            match outcome {
                Ok(()) => {
                    batch = Batch::default();
                    self.note_size(&storage);
                    self.durable.store(taken.seq, Ordering::Release);
                    self.failing.store(false, Ordering::Release);
                    self.done(taken.seq).notify_waiters();
                }
                Err(reason) => {
                    self.failures.add(1);
                    *lock(&self.reason) = reason;
                    self.failing.store(true, Ordering::Release);
                    // Waiting for the next commit ends as well, as that is not tried for a while.
                    self.done.iter().for_each(Notify::notify_waiters);
                }
            }
            if taken.finish {
                self.under_way.finish();
                return;
            }
            if self.is_full() && looked_for_room.elapsed() >= self.look_for_room {
                let (has_room, _) = self.watched(|| make_room(&mut storage));
                self.note_room(has_room);
                looked_for_room = Instant::now();
            }
        }
    }

    /// Ends without the commit of `seq`, which would change nothing: whoever waits to have it confirmed is refused,
    /// and what failed before was no more than that.
    fn finish_with_nothing(&self, seq: u64) {
        self.last.store(seq - 1, Ordering::Release);
        self.failing.store(false, Ordering::Release);
        self.done.iter().for_each(Notify::notify_waiters);
        self.under_way.finish();
    }

    /// Has the storage at work, which is reported if it takes far too long, and returns how long it took.
    fn watched<T>(&self, work: impl FnOnce() -> T) -> (T, Duration) {
        let begun = Instant::now();
        self.under_way.begin(begun);
        let done = work();
        let (was_reported, took) = (self.under_way.end(), begun.elapsed());
        if was_reported {
            warn!("the commit is over, after {} s", took.as_secs());
        }
        (done, took)
    }

    fn note_room(&self, has_room: bool) {
        let was_full = self.full.swap(!has_room, Ordering::AcqRel);
        match (was_full, has_room) {
            (false, false) => error!(
                "THE DISK OF THE STORE IS FULL: releases are stored, and commands that need room are \
                 refused"
            ),
            (true, true) => info!("the disk of the store has room again"),
            _ => {}
        }
    }

    fn watch(&self) {
        self.under_way.watch(OVERDUE, |took| {
            let waiting = self.collecting().wanted_by;
            error!(
                waiting,
                "a commit has been under way for {} s: the store is slow, or hangs",
                took.as_secs()
            );
        });
    }

    /// Waits until a commit is wanted, and then a little for further connections that will want it;
    /// after a failure, until it is time to try again. Takes its changes.
    fn take(&self, pace: &Pace) -> Taken {
        let mut collecting = self.collecting();
        collecting.writer_waits = true;
        if let Some(retry_after) = pace.retry_after() {
            // No number of waiting connections makes the next try come sooner.
            collecting.enough = usize::MAX;
            collecting = self.wait_for_enough(collecting, Some(retry_after));
        } else {
            collecting.enough = 1;
            let patience = self.is_full().then_some(self.look_for_room);
            collecting = self.wait_for_enough(collecting, patience);
            collecting.enough = pace.enough(collecting.wanted_by);
            collecting = self.wait_for_enough(collecting, Some(pace.last_commit));
        }
        collecting.writer_waits = false;
        let (seq, wanted_by) = (collecting.seq, collecting.wanted_by);
        if collecting.finish {
            self.last.store(seq, Ordering::Release);
        }
        collecting.seq += 1;
        collecting.wanted_by = 0;
        Taken {
            seq,
            wanted_by,
            changes: std::mem::take(&mut collecting.changes),
            finish: collecting.finish,
        }
    }

    fn wait_for_enough<'a>(
        &self,
        collecting: MutexGuard<'a, Collecting>,
        patience: Option<Duration>,
    ) -> MutexGuard<'a, Collecting> {
        let too_few = |collecting: &mut Collecting| {
            collecting.wanted_by < collecting.enough && !collecting.finish
        };
        match patience {
            None => {
                let waited = self.work.wait_while(collecting, too_few);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
            Some(patience) => {
                let waited = self.work.wait_timeout_while(collecting, patience, too_few);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}

/// The changes of one commit.
struct Taken {
    seq: u64,
    wanted_by: usize,
    changes: Vec<Change>,
    finish: bool,
}

/// Decides when the writer begins a commit.
///
/// The clients that the last commit answered are likely to come again at once. A commit that waits
/// for most of them serves all in one sync, instead of a few in each of many. It never waits longer
/// than the last commit took; and for a single client it does not wait.
#[derive(Debug, Default)]
struct Pace {
    last_commit: Duration,
    last_wanted_by: usize,
    failed_since: Option<Instant>,
    failures: u32,
}

impl Pace {
    fn enough(&self, wanted_by: usize) -> usize {
        (self.last_wanted_by + wanted_by) * 3 / 4
    }

    fn retry_after(&self) -> Option<Duration> {
        self.failed_since?;
        let doubled = RETRY_FIRST * 2_u32.saturating_pow(self.failures.saturating_sub(1).min(8));
        Some(doubled.min(RETRY_LAST))
    }

    fn after(
        &mut self,
        outcome: &Result<(), NotStored>,
        took: Duration,
        wanted_by: usize,
        (changes, is_over): (usize, bool),
    ) {
        self.last_commit = took.min(LONGEST_GATHERING);
        self.last_wanted_by = wanted_by;
        match outcome {
            Ok(()) => {
                if let Some(since) = self.failed_since.take() {
                    let seconds = since.elapsed().as_secs();
                    info!("the store works again, after {seconds} s");
                }
                self.failures = 0;
            }
            Err(reason) => {
                self.failed_since.get_or_insert_with(Instant::now);
                self.failures = self.failures.saturating_add(1);
                if !is_over {
                    log_failure(reason, self.failures, changes);
                }
            }
        }
    }
}

/// Commits a batch, or has it confirmed that nobody else commits. A storage that panics has not stored.
fn commit(storage: &mut impl Storage, batch: &Batch) -> Result<(), NotStored> {
    let attempt = std::panic::AssertUnwindSafe(|| match batch.is_empty() {
        true => storage.confirm(),
        false => storage.commit(batch),
    });
    std::panic::catch_unwind(attempt)
        .unwrap_or_else(|_| Err(NotStored::new("the store is broken; see the server's log")))
}

/// A storage that panics has made no room.
fn make_room(storage: &mut impl Storage) -> bool {
    let attempt = std::panic::AssertUnwindSafe(|| storage.make_room());
    std::panic::catch_unwind(attempt).unwrap_or(false)
}

fn log_failure(reason: &NotStored, times: u32, changes: usize) {
    if times.is_power_of_two() {
        error!(
            changes,
            attempts = times,
            "NOTHING CAN BE STORED, and commands that change anything are refused: {reason}"
        );
    }
}

/// Poisoning is ignored: the state in these mutexes is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::model::Token;
    use crate::store::fake::Fake;

    fn released(token: u64) -> impl FnOnce() -> Change {
        move || Change::Released(Token(token))
    }

    fn start() -> (Fake, Changes, Writer) {
        let fake = Fake::default();
        let (changes, writer) = Changes::to(fake.clone()).expect("a thread");
        (fake, changes, writer)
    }

    #[tokio::test]
    async fn one_commit_serves_all_changes_that_came_while_another_was_under_way() {
        let (fake, changes, writer) = start();
        let (go, has_begun) = fake.gate();
        let first = changes.push(released(0));
        changes.write(first);
        has_begun.recv().expect("the writer begins");
        let later: Vec<Seq> = (1..100)
            .map(|token| changes.push(released(token)))
            .collect();
        for seq in &later {
            assert!(*seq > first && changes.durable_up_to() < first);
            changes.write(*seq);
        }
        go.send(()).expect("the writer waits");
        assert_eq!(changes.durable(first).await, Ok(()));
        assert!(changes.durable_up_to() < later[0]);
        go.send(()).expect("the writer waits");
        for seq in later {
            assert_eq!(changes.durable(seq).await, Ok(()));
        }
        assert_eq!(fake.state().commits, 2);
        assert_eq!(fake.state().stored.len(), 100);
        drop(go);
        assert_eq!(writer.finish(), Ok(()));
    }

    #[tokio::test]
    async fn a_writer_that_nobody_waits_for_stores_what_came_and_ends() {
        let (fake, changes, writer) = start();
        let seq = changes.push(released(1));
        drop(writer);
        assert_eq!(changes.durable(seq).await, Ok(()));
        assert_eq!(fake.state().stored.len(), 1);
        let too_late = changes.push(released(2));
        let stopped = NotStored::new("the server has stopped");
        assert_eq!(changes.durable(too_late).await, Err(stopped));
    }

    #[tokio::test]
    async fn a_failure_is_told_and_what_failed_is_tried_again() {
        let (fake, changes, writer) = start();
        fake.state().is_broken = true;
        let why = NotStored::new("no space");
        let first = changes.push(released(1));
        assert_eq!(changes.durable(first).await, Err(why.clone()));
        assert_eq!(changes.refusal(), Some(why.clone()));
        let second = changes.push(released(2));
        assert_eq!(changes.durable(second).await, Err(why.clone()));
        assert_eq!(changes.durable(first).await, Err(why));
        fake.state().is_broken = false;
        // No caller asks, and the commit is tried again nevertheless.
        while changes.durable_up_to() < second {
            tokio::task::yield_now().await;
        }
        assert_eq!(changes.durable(first).await, Ok(()));
        assert_eq!(fake.state().stored.len(), 2);
        while changes.refusal().is_some() {
            tokio::task::yield_now().await;
        }
        assert_eq!(writer.finish(), Ok(()));
    }

    #[tokio::test]
    async fn a_full_disk_refuses_what_needs_room_until_it_has_some() {
        let fake = Fake::default();
        fake.state().is_full = true;
        let started = Changes::start(fake.clone(), Duration::from_millis(1));
        let (changes, writer) = started.expect("a thread");
        let first = changes.push(released(1));
        assert_eq!(changes.durable(first).await, Ok(()));
        assert_eq!(changes.accept(Room::Needed), Err(NotStored::new(FULL)));
        assert_eq!(changes.accept(Room::NotNeeded), Ok(()));
        let second = changes.push(released(2));
        assert_eq!(changes.durable(second).await, Ok(()));
        // No caller asks for anything, and room is looked for. It may take long, and commits wait for it.
        let (go, has_begun) = fake.gate();
        let looks = has_begun.recv_timeout(Duration::from_secs(60));
        assert_eq!(looks, Ok(()));
        let queue = changes.0.as_ref().expect("there is a store");
        assert!(queue.under_way.overdue(Duration::ZERO).is_some());
        fake.state().can_make_room = true;
        drop(go);
        let third = changes.push(released(3));
        assert_eq!(changes.durable(third).await, Ok(()));
        assert_eq!(changes.accept(Room::Needed), Ok(()));
        assert_eq!(writer.finish(), Ok(()));
    }

    /// A release may be what ends the failure.
    #[tokio::test]
    async fn a_full_disk_takes_releases_also_after_a_failure() {
        let fake = Fake::default();
        fake.state().is_full = true;
        fake.state().is_broken = true;
        let (changes, writer) = Changes::to(fake.clone()).expect("a thread");
        let first = changes.push(released(1));
        assert!(changes.durable(first).await.is_err());
        assert_eq!(changes.accept(Room::NotNeeded), Ok(()));
        assert!(changes.accept(Room::Needed).is_err());
        fake.state().is_broken = false;
        assert_eq!(writer.finish(), Ok(()));
    }

    #[tokio::test]
    async fn a_storage_that_panics_has_not_stored() {
        let (fake, changes, writer) = start();
        fake.state().panics = true;
        let seq = changes.push(released(1));
        assert!(changes.durable(seq).await.is_err());
        fake.state().panics = false;
        assert_eq!(writer.finish(), Ok(()));
        assert_eq!(fake.state().stored.len(), 1);
    }

    #[test]
    fn what_nobody_waits_for_is_written_at_the_end() {
        let (fake, changes, writer) = start();
        changes.push(released(1));
        assert_eq!(writer.finish(), Ok(()));
        assert_eq!(fake.state().stored.len(), 1);
        let (fake, changes, writer) = start();
        fake.state().is_broken = true;
        changes.push(released(1));
        assert_eq!(writer.finish(), Err(NotStored::new("no space")));
    }

    /// A change that is handed in during the retry that makes the store work again is part of a
    /// commit that no caller waits for.
    #[tokio::test]
    async fn what_was_refused_is_written_when_the_store_works_again() {
        let (fake, changes, writer) = start();
        fake.state().failures.push(NotStored::new("now and then"));
        let (go, has_begun) = fake.gate();
        let first = changes.push(released(1));
        changes.write(first);
        let begins = || has_begun.recv().expect("the writer begins");
        let goes_on = || go.send(()).expect("the writer waits");
        begins();
        goes_on();
        // The retry is under way.
        begins();
        let second = changes.push(released(2));
        assert!(changes.durable(second).await.is_err());
        goes_on();
        begins();
        goes_on();
        while changes.durable_up_to() < second {
            tokio::task::yield_now().await;
        }
        assert_eq!(fake.state().stored.len(), 2);
        drop(go);
        assert_eq!(writer.finish(), Ok(()));
    }

    #[tokio::test]
    async fn what_comes_after_the_last_commit_is_told_so_and_waits_for_nothing() {
        let (fake, changes, writer) = start();
        let first = changes.push(released(1));
        assert_eq!(writer.finish(), Ok(()));
        assert_eq!(changes.durable(first).await, Ok(()));
        assert_eq!(changes.durable(changes.last()).await, Ok(()));
        let late = changes.push(released(2));
        changes.write(late);
        assert!(changes.durable(late).await.is_err());
        assert!(changes.durable(changes.last()).await.is_err());
        assert_eq!(changes.durable(first).await, Ok(()));
        assert_eq!(fake.state().stored.len(), 1);
    }

    /// As etcd is away, or another leads, when a leader stops.
    #[tokio::test]
    async fn what_is_only_to_be_confirmed_at_the_end_is_refused_and_nothing_is_lost() {
        for has_failed_before in [true, false] {
            let fake = Fake::default();
            fake.state().must_confirm = true;
            let (changes, writer) = Changes::to(fake.clone()).expect("threads");
            fake.state().is_broken = true;
            if has_failed_before {
                let told = changes.durable(changes.confirmation()).await;
                assert_eq!(told, Err(NotStored::new("no space")));
            }
            let waits = changes.confirmation();
            assert_eq!(writer.finish(), Ok(()));
            assert!(changes.durable(waits).await.is_err());
            // Nobody can wait for a later one either.
            assert!(changes.durable(changes.confirmation()).await.is_err());
        }
    }

    /// On real threads: a change that meets the end of the writer is stored, or is told that it is
    /// not.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_change_that_meets_the_end_is_stored_or_told() {
        const TASKS: u64 = 8;
        for _ in 0..100 {
            let (fake, changes, writer) = start();
            let task = |task: u64| {
                let (fake, changes) = (fake.clone(), changes.clone());
                async move {
                    for index in 0_u64.. {
                        let token = index * TASKS + task;
                        let seq = changes.push(released(token));
                        match changes.durable(seq).await {
                            Ok(()) => assert!(is_stored(&fake, token)),
                            Err(_) => return assert!(!is_stored(&fake, token)),
                        }
                    }
                }
            };
            let tasks: Vec<_> = (0..TASKS).map(|n| tokio::spawn(task(n))).collect();
            assert_eq!(writer.finish(), Ok(()));
            for task in tasks {
                task.await.expect("no assertion failed");
            }
        }
    }

    fn is_stored(fake: &Fake, token: u64) -> bool {
        fake.state().stored.grants.contains_key(&Token(token))
    }

    /// On real threads, with failures in between: each task that is told that a change is durable
    /// finds it stored, and no task waits for ever.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_is_said_to_be_durable_is_stored() {
        const TASKS: u64 = 16;
        const EACH: u64 = 500;
        let (fake, changes, writer) = start();
        let told = Arc::new(AtomicUsize::new(0));
        let task = |task: u64| {
            let (fake, changes, told) = (fake.clone(), changes.clone(), Arc::clone(&told));
            async move {
                for index in 0..EACH {
                    let token = task * EACH + index;
                    if task < 4 && index == 100 * (task + 1) {
                        fake.state().failures.push(NotStored::new("now and then"));
                    }
                    let seq = changes.push(released(token));
                    if changes.durable(seq).await.is_ok() {
                        assert!(is_stored(&fake, token));
                        told.fetch_add(1, Ordering::Relaxed);
                    }
                    while changes.refusal().is_some() {
                        tokio::task::yield_now().await;
                    }
                }
            }
        };
        let tasks: Vec<_> = (0..TASKS).map(|n| tokio::spawn(task(n))).collect();
        for task in tasks {
            task.await.expect("no assertion failed");
        }
        fake.state().failures.clear();
        assert_eq!(writer.finish(), Ok(()));
        let commits = fake.state().commits;
        let stored = fake.state().stored.len() as u64;
        assert_eq!(stored, TASKS * EACH);
        let told = told.load(Ordering::Relaxed) as u64;
        assert!(
            told > TASKS * EACH / 2 && told < TASKS * EACH,
            "{told} were told"
        );
        assert!(
            (commits as u64) < TASKS * EACH,
            "{commits} commits share nothing"
        );
    }
}
