//! What one address, or one user, may have at one time, and what it has.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is counted on an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Connections.
    Connections,
    /// Disconnected sessions that are kept for their grace period.
    GraceSessions,
    /// Locks: those of sessions, as many as their connections last noted, and those of owners, from the time
    /// at which a session took one to its end, however it ends. Those that a store kept are on no account.
    Locks,
    /// Requests that wait for a lock.
    Waiters,
}

const RESOURCES: usize = 4;

impl Resource {
    /// All of them.
    pub const ALL: [Self; RESOURCES] = [
        Self::Connections,
        Self::GraceSessions,
        Self::Locks,
        Self::Waiters,
    ];
}

/// Bounds of an account; `None`: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Connections at one time.
    pub connections: Option<u32>,
    /// Sessions in their grace period at one time.
    pub grace_sessions: Option<u32>,
    /// Locks held at one time.
    pub locks: Option<u32>,
    /// Requests that wait at one time.
    pub waiters: Option<u32>,
    /// Commands in a second.
    pub commands: Option<u32>,
}

/// Whom an account is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// All connections from one address.
    Address,
    /// All connections of one user.
    User,
}

/// What is used of a quota. May be changed from any number of threads at once; what it counts never
/// passes its bound but where [`Account::add`] says so.
#[derive(Debug)]
pub struct Account {
    whose: Whose,
    used: [AtomicU32; RESOURCES],
    /// [`NONE`] for a resource without a bound.
    bounds: [AtomicU32; RESOURCES],
    commands: AtomicU32,
    /// Until when the commands so far are paid for, at the rate of the quota.
    paid_until: Mutex<Option<Instant>>,
}

const NONE: u32 = u32::MAX;

/// A bound that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// Of what.
    pub what: Resource,
    /// Whose account.
    pub whose: Whose,
    /// The bound.
    pub max: u32,
}

impl Account {
    /// One without bounds.
    pub fn new(whose: Whose) -> Self {
        Self {
            whose,
            used: Default::default(),
            bounds: std::array::from_fn(|_| AtomicU32::new(NONE)),
            commands: AtomicU32::new(NONE),
            paid_until: Mutex::default(),
        }
    }

    /// Sets the bounds. What is above one of them now stays, and nothing comes on top.
    pub fn set(&self, quota: Quota) {
        let Quota {
            connections,
            grace_sessions,
            locks,
            waiters,
            commands,
        } = quota;
        let bounds = [connections, grace_sessions, locks, waiters];
        for (bound, to) in self.bounds.iter().zip(bounds) {
            bound.store(to.unwrap_or(NONE), Ordering::Relaxed);
        }
        self.commands
            .store(commands.unwrap_or(NONE), Ordering::Relaxed);
    }

    /// Counts one more.
    ///
    /// # Errors
    ///
    /// If there are as many as may be; then nothing has changed.
    pub fn take(&self, what: Resource) -> Result<(), Exhausted> {
        let max = self.bounds[what as usize].load(Ordering::Relaxed);
        let one_more = |used: u32| (used < max).then_some(used + 1);
        self.used[what as usize]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map(drop)
            .map_err(|_| self.exhausted(what, max))
    }

    /// Counts so many more, although that may be above the bound.
    pub fn add(&self, what: Resource, count: u32) {
        self.used[what as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Counts so many less.
    pub fn give_back(&self, what: Resource, count: u32) {
        let before = self.used[what as usize].fetch_sub(count, Ordering::Relaxed);
        debug_assert!(before >= count, "nothing is given back that was not taken");
    }

    /// Whether one more may be had, beside `more` that are not counted yet.
    ///
    /// # Errors
    ///
    /// If not.
    pub fn has_room(&self, what: Resource, more: u32) -> Result<(), Exhausted> {
        let max = self.bounds[what as usize].load(Ordering::Relaxed);
        match self.used(what).saturating_add(more) < max {
            true => Ok(()),
            false => Err(self.exhausted(what, max)),
        }
    }

    /// How many are counted.
    pub fn used(&self, what: Resource) -> u32 {
        self.used[what as usize].load(Ordering::Relaxed)
    }

    /// Counts so many commands at `now`, and returns how long whoever sent them should rest: a second's
    /// worth of them comes at once.
    pub fn charge(&self, commands: u32, now: Instant) -> Duration {
        const AT_ONCE: Duration = Duration::from_secs(1);
        let rate = self.commands.load(Ordering::Relaxed);
        if rate == NONE || commands == 0 {
            return Duration::ZERO;
        }
        let cost = Duration::from_secs(1) * commands / rate.max(1);
        let mut paid_until = self
            .paid_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let until = paid_until.map_or(now, |until| until.max(now)) + cost;
        *paid_until = Some(until);
        until.saturating_duration_since(now + AT_ONCE)
    }

    /// How much of a bound is taken, and the bound; `None` if there is none, or if nothing may be taken.
    fn usage(&self, what: Resource) -> Option<Usage> {
        let max = self.bounds[what as usize].load(Ordering::Relaxed);
        let used = self.used(what);
        (max != NONE && max > 0).then_some(Usage { used, max })
    }

    fn exhausted(&self, what: Resource, max: u32) -> Exhausted {
        let whose = self.whose;
        Exhausted { what, whose, max }
    }
}

/// How much of a bound is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// That much.
    pub used: u32,
    /// The bound, never 0.
    pub max: u32,
}

impl Usage {
    fn is_nearer_than(self, other: Self) -> bool {
        u64::from(self.used) * u64::from(other.max) > u64::from(other.used) * u64::from(self.max)
    }
}

/// For each resource, that of many accounts which is nearest to its bound.
#[derive(Debug, Default)]
pub struct Nearest([Option<Usage>; RESOURCES]);

impl Nearest {
    /// Looks at one more account. Its numbers are read one after another, while it is used.
    pub fn look_at(&mut self, account: &Account) {
        for (nearest, what) in self.0.iter_mut().zip(Resource::ALL) {
            if let Some(usage) = account.usage(what)
                && nearest.is_none_or(|nearest| usage.is_nearer_than(nearest))
            {
                *nearest = Some(usage);
            }
        }
    }

    /// The nearest for this resource; `None` if no account has a bound of it.
    pub fn of(&self, what: Resource) -> Option<Usage> {
        self.0[what as usize]
    }
}

impl Exhausted {
    /// The setting of the bound.
    pub fn setting(&self) -> &'static str {
        match (self.whose, self.what) {
            (Whose::Address, Resource::Connections) => "--max-address-connections",
            (Whose::Address, Resource::GraceSessions) => "--max-address-grace-sessions",
            (Whose::Address, Resource::Locks) => "--max-address-locks",
            (Whose::Address, Resource::Waiters) => "--max-address-waiters",
            (Whose::User, Resource::Connections) => "max_connections of a user",
            (Whose::User, Resource::GraceSessions) => "max_grace_sessions of a user",
            (Whose::User, Resource::Locks) => "max_locks of a user",
            (Whose::User, Resource::Waiters) => "max_waiters of a user",
        }
    }
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            Resource::Connections => "connections",
            Resource::GraceSessions => "sessions in grace",
            Resource::Locks => "locks",
            Resource::Waiters => "waiters",
        };
        let whose = match self.whose {
            Whose::Address => "this address",
            Whose::User => "this user",
        };
        write!(f, "Too many {what} of {whose}: at most {}", self.max)
    }
}

/// One of something on an account, until it is dropped.
#[derive(Debug)]
pub struct Taken {
    account: Arc<Account>,
    what: Resource,
}

impl Taken {
    /// Takes one.
    ///
    /// # Errors
    ///
    /// If there are as many as may be.
    pub fn one(account: &Arc<Account>, what: Resource) -> Result<Self, Exhausted> {
        account.take(what)?;
        let account = Arc::clone(account);
        Ok(Self { account, what })
    }

    /// The account that it is on.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.account.give_back(self.what, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_never_passes_its_bound_and_comes_back() {
        let account = Arc::new(Account::new(Whose::User));
        account.set(Quota {
            connections: Some(2),
            ..Quota::default()
        });
        let take = || Taken::one(&account, Resource::Connections);
        let (first, _second) = (take().expect("one"), take().expect("two"));
        let refused = take().expect_err("three");
        assert_eq!(
            refused.to_string(),
            "Too many connections of this user: at most 2"
        );
        drop(first);
        let _third = take().expect("room again");
        // A smaller bound takes nothing away.
        account.set(Quota {
            connections: Some(1),
            ..Quota::default()
        });
        assert!(take().is_err());
        account.set(Quota::default());
        assert!(take().is_ok());
        assert_eq!(account.used(Resource::Connections), 2);
    }

    #[test]
    fn the_nearest_is_the_one_that_has_taken_most_of_its_bound() {
        let account = |used, max| {
            let account = Account::new(Whose::User);
            account.set(Quota {
                locks: Some(max),
                ..Quota::default()
            });
            account.add(Resource::Locks, used);
            account
        };
        let mut nearest = Nearest::default();
        nearest.look_at(&Account::new(Whose::User));
        nearest.look_at(&account(0, 0));
        assert!(Resource::ALL.iter().all(|what| nearest.of(*what).is_none()));
        for (used, max) in [(0, 5), (50, 100), (9, 10), (100, 1_000), (8, 10)] {
            nearest.look_at(&account(used, max));
        }
        let found = nearest.of(Resource::Locks);
        assert_eq!(found, Some(Usage { used: 9, max: 10 }));
        assert_eq!(nearest.of(Resource::Waiters), None);
    }

    #[test]
    fn commands_come_at_their_rate_beyond_what_a_second_brings() {
        let (account, now) = (Account::new(Whose::User), Instant::now());
        assert_eq!(account.charge(1_000_000, now), Duration::ZERO);
        account.set(Quota {
            commands: Some(100),
            ..Quota::default()
        });
        assert_eq!(account.charge(100, now), Duration::ZERO);
        assert_eq!(account.charge(50, now), Duration::from_millis(500));
        let later = now + Duration::from_secs(1);
        assert_eq!(account.charge(50, later), Duration::ZERO);
        // Time in which nothing comes is not saved up.
        let much_later = now + Duration::from_secs(60);
        assert_eq!(account.charge(200, much_later), Duration::from_secs(1));
    }
}
