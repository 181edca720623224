//! Who comes, from where, and on whose account.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
#[cfg(feature = "admin")]
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::access::User;
#[cfg(feature = "admin")]
use crate::model::Nearest;
use crate::model::{Account, Exhausted, Limit, Peer, Quota, Resource, Taken, Whose};

/// Somebody who may be served.
#[derive(Debug)]
pub(super) struct Arrival {
    /// From where.
    pub(super) peer: Peer,
    /// As whom; `None`: as a stranger, who has to say who it is.
    pub(super) user: Option<Arc<User>>,
    /// What it counts for.
    pub(super) places: AccountPlaces,
    /// Another server of the same cluster passes it on.
    pub(super) is_passed_on: bool,
}

impl Arrival {
    /// A stranger, for whom there is a place on the account of its address.
    pub(super) fn stranger(peer: Peer, places: AccountPlaces) -> Self {
        Self {
            peer,
            user: None,
            places,
            is_passed_on: false,
        }
    }

    /// The same, who comes as that user.
    ///
    /// # Errors
    ///
    /// If the user has as many connections as it may have.
    pub(super) fn known_as(mut self, user: Option<Arc<User>>) -> Result<Self, Exhausted> {
        if let Some(user) = &user {
            self.places.take_for(user)?;
        }
        self.user = user;
        Ok(self)
    }
}

/// A connection's places on the accounts of its address and of its user, as far as they have bounds.
#[derive(Debug, Default)]
pub(super) struct AccountPlaces {
    pub(super) address: Option<Taken>,
    user: Option<Taken>,
}

impl AccountPlaces {
    /// `None` if there are none.
    pub(super) fn boxed(self) -> Option<Box<Self>> {
        (self.address.is_some() || self.user.is_some()).then(|| Box::new(self))
    }

    /// Takes a place on the user's account, in exchange for one that there was.
    pub(super) fn take_for(&mut self, user: &User) -> Result<(), Exhausted> {
        let new = user.account();
        let own = self.user.as_ref().map(Taken::account);
        let is_there = new.zip(own).is_some_and(|(new, own)| Arc::ptr_eq(new, own));
        if !is_there {
            let take = |account| Taken::one(account, Resource::Connections);
            self.user = new.map(take).transpose()?;
        }
        Ok(())
    }

    /// The accounts that they are on.
    pub(super) fn accounts(&self) -> Vec<Arc<Account>> {
        let taken = [&self.address, &self.user].into_iter().flatten();
        taken.map(Taken::account).cloned().collect()
    }

    /// Takes one command from each account, if each has one.
    ///
    /// # Errors
    ///
    /// If one has none; then nothing is taken.
    pub(super) fn take_command(&self, now: Instant) -> Result<(), Limit> {
        let [address, user] =
            [&self.address, &self.user].map(|one| one.as_ref().map(Taken::account));
        let take =
            |account: Option<&Arc<Account>>| account.map_or(Ok(()), |one| one.take_command(now));
        take(address)?;
        take(user).inspect_err(|_| {
            if let Some(address) = address {
                address.commands().put_back();
            }
        })
    }
}

/// The accounts of all addresses that have connections, or sessions from there; or had some not long ago, so that
/// who comes again has no more commands than who stays.
#[derive(Debug)]
pub(super) struct Addresses {
    quota: Quota,
    accounts: Mutex<Accounts>,
}

#[derive(Debug, Default)]
struct Accounts {
    /// In their order, so that they can be looked through in slices.
    by_address: BTreeMap<IpAddr, Arc<Account>>,
    /// With more entries, those that nobody uses any more, and that have all their commands, are taken out.
    most: usize,
}

/// The fewest entries that are looked through for those that nobody uses any more.
const LEAST: usize = 1024;

/// How many are looked at in one go: some tens of microseconds.
#[cfg(feature = "admin")]
const SLICE: usize = 1_000;

impl Addresses {
    /// `None` if there is no bound: then there is nothing to count.
    pub(super) fn with(quota: Quota) -> Option<Self> {
        let accounts = Mutex::default();
        (quota != Quota::default()).then_some(Self { quota, accounts })
    }

    /// The account of this address, or of its network.
    pub(super) fn account(&self, address: IpAddr, now: Instant) -> Arc<Account> {
        let address = network_of(address);
        let mut accounts = self.accounts();
        if let Some(account) = accounts.by_address.get(&address) {
            return Arc::clone(account);
        }
        if accounts.by_address.len() >= accounts.most.max(LEAST) {
            accounts.by_address.retain(|_, account| {
                Arc::strong_count(account) > 1 || !account.commands().is_full(now)
            });
            accounts.most = 2 * accounts.by_address.len();
        }
        let account = Arc::new(Account::new(Whose::Address));
        account.set(self.quota);
        accounts.by_address.insert(address, Arc::clone(&account));
        account
    }

    /// For each bound, the address that is nearest to it. Looks at a few at a time, so that whoever comes
    /// meanwhile need not wait for this.
    #[cfg(feature = "admin")]
    pub(super) fn nearest(&self, now: Instant) -> Nearest {
        let mut nearest = Nearest::default();
        let nobody = Account::new(Whose::Address);
        nobody.set(self.quota);
        nearest.look_at(&nobody, now);
        let mut last = None;
        loop {
            let accounts = self.accounts();
            let from = last.map_or(Bound::Unbounded, Bound::Excluded);
            let behind = accounts.by_address.range((from, Bound::Unbounded));
            let mut slice = behind.take(SLICE).peekable();
            if slice.peek().is_none() {
                return nearest;
            }
            for (address, account) in slice {
                last = Some(*address);
                nearest.look_at(account, now);
            }
        }
    }

    /// Nothing is half done where a holder could panic.
    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One machine has very many IPv6 addresses, and they share their first half.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// The address that somebody connects from; `None` for a unix socket.
pub(super) fn ip_of(peer: Peer) -> Option<IpAddr> {
    match peer {
        Peer::Tcp(address) => Some(address.ip()),
        Peer::Unix(_) | Peer::BeforeRestart => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    #[cfg(feature = "admin")]
    use crate::model::Usage;

    #[test]
    fn an_ipv6_network_is_one_address() {
        let network = |text: &str| network_of(text.parse().expect("an address"));
        assert_eq!(network("2001:db8:1:2:3::4"), network("2001:db8:1:2:ffff::"));
        assert_ne!(network("2001:db8:1:2::"), network("2001:db8:1:3::"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }

    #[test]
    fn accounts_that_nobody_uses_are_forgotten() {
        let quota = Quota {
            connections: Some(1),
            ..Quota::default()
        };
        let addresses = Addresses::with(quota).expect("a bound");
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let now = Instant::now();
        let kept = addresses.account(address(7), now);
        for number in 0..10 * LEAST as u32 {
            addresses.account(address(number), now);
        }
        assert!(Arc::ptr_eq(&kept, &addresses.account(address(7), now)));
        let accounts = addresses.accounts.lock().expect("no panic");
        assert!(accounts.by_address.len() <= LEAST + 1);
    }

    #[test]
    fn an_account_is_kept_until_it_has_all_its_commands_again() {
        let quota = Quota {
            commands: Some(1),
            ..Quota::default()
        };
        let addresses = Addresses::with(quota).expect("a bound");
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        // The server's clock leaves out the times in which it stood still.
        let now = Instant::now()
            .checked_sub(Duration::from_secs(10))
            .expect("it runs for longer");
        let take = || addresses.account(address(7), now).take_command(now);
        take().expect("one");
        for number in 0..10 * LEAST as u32 {
            addresses.account(address(number), now);
        }
        assert!(take().is_err());
    }

    #[cfg(feature = "admin")]
    #[test]
    fn the_nearest_address_is_found_among_more_than_a_slice_of_them() {
        let quota = Quota {
            connections: Some(10),
            ..Quota::default()
        };
        let addresses = Addresses::with(quota).expect("a bound");
        let used =
            |addresses: &Addresses| addresses.nearest(Instant::now()).of(Resource::Connections);
        let (max, now) = (10, Instant::now());
        assert_eq!(used(&addresses), Some(Usage { used: 0, max }));
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let all = (0..3 * SLICE as u32).map(|number| addresses.account(address(number), now));
        let all: Vec<_> = all.collect();
        all[2 * SLICE + 7].add(Resource::Connections, 9);
        all[7].add(Resource::Connections, 2);
        assert_eq!(used(&addresses), Some(Usage { used: 9, max }));
        assert_eq!(addresses.nearest(Instant::now()).of(Resource::Locks), None);
    }
}
