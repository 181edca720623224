//! What one address, or one user, may have at one time, and what it has.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::limits::Limit;
use super::rate::Rate;

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

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "this address",
            Self::User => "this user",
        })
    }
}

/// What is used of a quota. May be changed from any number of threads at once; what it counts never
/// passes its bound but where [`Account::add`] says so.
#[derive(Debug)]
pub struct Account {
    whose: Whose,
    used: [AtomicU32; RESOURCES],
    /// [`NONE`] for a resource without a bound.
    bounds: [AtomicU32; RESOURCES],
    commands: Rate,
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
            commands: Rate::default(),
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
        self.commands.set(commands);
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

    /// The commands in a second.
    pub fn commands(&self) -> &Rate {
        &self.commands
    }

    /// Takes one command, if there is one.
    ///
    /// # Errors
    ///
    /// If not.
    pub fn take_command(&self, now: Instant) -> Result<(), Limit> {
        let whose = self.whose;
        let taken = self.commands.take(now);
        taken.map_err(|max| Limit::CommandsPerSecond { whose, max })
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
pub struct Nearest {
    resources: [Option<Usage>; RESOURCES],
    commands: Option<Usage>,
}

impl Nearest {
    /// Looks at one more account, at `now`. Its numbers are read one after another, while it is used.
    pub fn look_at(&mut self, account: &Account, now: Instant) {
        for (nearest, what) in self.resources.iter_mut().zip(Resource::ALL) {
            keep_nearer(nearest, account.usage(what));
        }
        keep_nearer(&mut self.commands, account.commands.usage(now));
    }

    /// The nearest for this resource; `None` if no account has a bound of it.
    pub fn of(&self, what: Resource) -> Option<Usage> {
        self.resources[what as usize]
    }

    /// The nearest for commands in a second; `None` if no account has a bound of them.
    pub fn of_commands(&self) -> Option<Usage> {
        self.commands
    }
}

fn keep_nearer(nearest: &mut Option<Usage>, usage: Option<Usage>) {
    if let Some(usage) = usage
        && nearest.is_none_or(|nearest| usage.is_nearer_than(nearest))
    {
        *nearest = Some(usage);
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
        let Self { whose, max, .. } = self;
        write!(f, "Too many {what} of {whose}: at most {max}")
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
        let now = Instant::now();
        nearest.look_at(&Account::new(Whose::User), now);
        nearest.look_at(&account(0, 0), now);
        assert!(Resource::ALL.iter().all(|what| nearest.of(*what).is_none()));
        for (used, max) in [(0, 5), (50, 100), (9, 10), (100, 1_000), (8, 10)] {
            nearest.look_at(&account(used, max), now);
        }
        let found = nearest.of(Resource::Locks);
        assert_eq!(found, Some(Usage { used: 9, max: 10 }));
        assert_eq!(nearest.of(Resource::Waiters), None);
    }
}
