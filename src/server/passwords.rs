//! Checks passwords, without being a burden to anybody else.
//!
//! - A check takes 20 ms of a processor and 19 MiB, so only a few run at one time, on threads of their
//!   own; of one address no more than one, so that a flood from there is in nobody else's way. Where
//!   a right password came from lately, one has a place of its own beside a flood from many addresses.
//! - What was right a moment ago is right without a check, for as long as the user is as it was.
//! - Wrong tries of one address with one name come more and more slowly. Each counts as wrong from
//!   before it is looked at until it is shown right, so that nothing is gained by many at once, nor by
//!   hanging up.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};
use tracing::error;

use super::arrival::network_of;
use super::desk::NotLetIn;
use super::entropy::Entropy;
use crate::access::{DEFAULT, ProofKey, User, Users};

/// How many checks run at one time.
const CHECKS_AT_ONCE: usize = 2;

/// How many more run for addresses from which a right password came, and for how long that counts.
const CHECKS_OF_PROVEN: usize = 1;
const PROVEN: Duration = Duration::from_secs(3600);

/// How often addresses that do not count any more are looked for, at most.
const SWEEP: Duration = Duration::from_secs(1);

/// Over how many queues for a check the addresses are spread.
const QUEUES: usize = 1024;

/// How many tries may wait in one of these queues.
const LONGEST_QUEUE: usize = 256;

/// So many wrong tries of one origin come at once; and after them, one each [`PERIOD`].
const WRONG_AT_ONCE: u32 = 5;
const PERIOD: Duration = Duration::from_secs(1);

/// Of how many origins wrong tries are remembered. When half of that is too few, they are all forgotten: to
/// bring that about takes far more tries than it gains.
const ORIGINS: usize = 10_000;

/// Where tries come from: an address, and the name that they claim as a hash, so that one program with
/// a wrong password does not slow down the others of its machine. Names that no user has are treated as
/// all others, or the time would tell.
type Origin = (Option<IpAddr>, u64);

#[derive(Debug)]
pub(super) struct Passwords {
    key: ProofKey,
    hasher: RandomState,
    tries: Tries,
    queues: Box<[Queue]>,
    checks: Arc<Semaphore>,
    checks_of_proven: Arc<Semaphore>,
    proven: Mutex<Proven>,
}

/// The addresses from which a right password came lately.
#[derive(Debug, Default)]
struct Proven {
    /// Until when each counts as such.
    until: HashMap<Option<IpAddr>, Instant>,
    /// When those that do not count any more were last looked for.
    swept: Option<Instant>,
}

/// Those of some addresses who wait for a check, one of whom has it.
#[derive(Debug, Default)]
struct Queue {
    length: AtomicUsize,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Passwords {
    pub(super) fn new(entropy: &Entropy) -> io::Result<Self> {
        let mut key = [0; 32];
        for half in key.chunks_mut(16) {
            half.copy_from_slice(&entropy.secret()?.0.to_ne_bytes());
        }
        Ok(Self {
            key: ProofKey(key),
            hasher: RandomState::new(),
            tries: Tries::default(),
            queues: (0..QUEUES).map(|_| Queue::default()).collect(),
            checks: Arc::new(Semaphore::new(CHECKS_AT_ONCE)),
            checks_of_proven: Arc::new(Semaphore::new(CHECKS_OF_PROVEN)),
            proven: Mutex::default(),
        })
    }

    /// `users` are those of the time when the try has its turn.
    pub(super) async fn verify(
        &self,
        users: impl Fn() -> Arc<Users>,
        name: Option<&[u8]>,
        password: &[u8],
        from: Option<IpAddr>,
    ) -> Result<Arc<User>, NotLetIn> {
        let (name, from) = (name.unwrap_or(DEFAULT.as_bytes()), from.map(network_of));
        let origin = (from, self.hasher.hash_one(name));
        self.tries.count_one(origin).await;
        let users = users();
        let (claimed, is_known) = users.claimed(name);
        let Some(claimed) = claimed else {
            return Err(NotLetIn::Wrong);
        };
        let proof = self.key.proof(password);
        let is_remembered = is_known && claimed.remembers(proof, Instant::now().into_std());
        if !is_remembered {
            let is_right = self.check(claimed, password, from).await;
            if is_right.is_err() {
                self.tries.uncount_one(origin);
            }
            if !(is_right? && is_known) {
                return Err(NotLetIn::Wrong);
            }
            claimed.remember(proof, Instant::now().into_std());
        }
        self.tries.uncount_one(origin);
        self.prove(from, Instant::now());
        if !is_remembered {
            // Others with the same password need not wait any more.
            self.tries.proven.notify_waiters();
        }
        Ok(Arc::clone(claimed))
    }

    /// Whether this is the user's password.
    async fn check(
        &self,
        user: &Arc<User>,
        password: &[u8],
        from: Option<IpAddr>,
    ) -> Result<bool, NotLetIn> {
        if !user.has_slow_secret() {
            return Ok(user.has_password(password));
        }
        let queue = &self.queues[self.hasher.hash_one(from) as usize % QUEUES];
        let _place = queue.enter()?;
        let turn = Arc::clone(&queue.turn).lock_owned().await;
        let is_proven = self.is_proven(from, Instant::now());
        let permit = tokio::select! {
            biased;
            permit = Arc::clone(&self.checks_of_proven).acquire_owned(), if is_proven => permit,
            permit = Arc::clone(&self.checks).acquire_owned() => permit,
        };
        let Ok(permit) = permit else {
            return Err(NotLetIn::Busy);
        };
        let (user, password) = (Arc::clone(user), password.to_vec());
        let checked = tokio::task::spawn_blocking(move || {
            // Also if nobody waits for it any more, it is one of the few.
            let _turns = (turn, permit);
            user.has_password(&password)
        });
        checked.await.map_err(|failure| {
            error!("a password could not be checked: {failure}");
            NotLetIn::Busy
        })
    }

    fn is_proven(&self, from: Option<IpAddr>, now: Instant) -> bool {
        self.proven()
            .until
            .get(&from)
            .is_some_and(|until| *until > now)
    }

    /// A right password came from there. When there are too many such addresses, new ones are none.
    fn prove(&self, from: Option<IpAddr>, now: Instant) {
        let mut proven = self.proven();
        let Proven { until, swept } = &mut *proven;
        let is_new = !until.contains_key(&from);
        if is_new && until.len() >= ORIGINS && swept.is_none_or(|swept| swept + SWEEP <= now) {
            *swept = Some(now);
            until.retain(|_, until| *until > now);
        }
        if !is_new || until.len() < ORIGINS {
            until.insert(from, now + PROVEN);
        }
    }

    /// Nothing is half done where a holder could panic.
    fn proven(&self) -> MutexGuard<'_, Proven> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a queue, until it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl Queue {
    fn enter(&self) -> Result<Place<'_>, NotLetIn> {
        let place = Place(&self.length);
        match self.length.fetch_add(1, Ordering::Relaxed) < LONGEST_QUEUE {
            true => Ok(place),
            false => Err(NotLetIn::Busy),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The tries of each origin that are not shown right.
#[derive(Debug, Default)]
struct Tries {
    /// When the last of them will be forgotten. An origin without an entry has none.
    until: Mutex<HashMap<Origin, Instant>>,
    /// Notified when a password was shown right.
    proven: Notify,
}

impl Tries {
    /// Counts a try as wrong, as soon as the origin may have one more. Cancel safe.
    async fn count_one(&self, origin: Origin) {
        loop {
            let mut proven = pin!(self.proven.notified());
            // From here on it is not missed.
            proven.as_mut().enable();
            let Err(again) = self.try_count_one(origin, Instant::now()) else {
                return;
            };
            tokio::select! {
                () = sleep_until(again) => {}
                () = proven => {}
            }
        }
    }

    /// As [`Tries::count_one`]; otherwise says when it may be tried again.
    fn try_count_one(&self, origin: Origin, now: Instant) -> Result<(), Instant> {
        let mut until = self.until();
        if until.len() >= ORIGINS {
            until.retain(|_, until| *until > now);
            // Not for a few at a time, as each time looks at all.
            if until.len() > ORIGINS / 2 {
                until.clear();
            }
        }
        let until = until.entry(origin).or_insert(now);
        let all_but_one = PERIOD * (WRONG_AT_ONCE - 1);
        if until.saturating_duration_since(now) > all_but_one {
            return Err(*until - all_but_one);
        }
        *until = now.max(*until) + PERIOD;
        Ok(())
    }

    fn uncount_one(&self, origin: Origin) {
        let now = Instant::now();
        let mut tries = self.until();
        if let Some(until) = tries.get_mut(&origin) {
            *until -= PERIOD;
            if *until <= now {
                tries.remove(&origin);
            }
        }
    }

    /// Nothing is half done where a holder could panic.
    fn until(&self) -> MutexGuard<'_, HashMap<Origin, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::time::timeout;

    use super::*;
    use crate::server::harness::{Client, Server};

    const WRONG: &str = "401 wrong user or password";

    fn server() -> Server {
        let users = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/access/users.toml");
        Server::start_with(|config| config.auth_file = Some(users))
    }

    async fn fail(client: &mut Client, user: &str) {
        client.ask(&format!("auth {user} wrong"), WRONG).await;
    }

    /// Whether it takes no time, by a clock that stands still while anybody has something to do. The
    /// checks of passwords are such, though on other threads.
    async fn takes_no_time<T>(action: impl Future<Output = T>) -> bool {
        let begin = Instant::now();
        action.await;
        begin.elapsed() < PERIOD / 2
    }

    #[tokio::test(start_paused = true)]
    async fn five_wrong_tries_come_at_once_and_then_one_a_second() {
        let server = server();
        let (mut a, mut b, mut c) = (server.connect(), server.connect(), server.connect());
        let five = async {
            for _ in 0..2 {
                fail(&mut a, "web").await;
                fail(&mut b, "web").await;
            }
            fail(&mut c, "web").await;
        };
        assert!(takes_no_time(five).await);
        assert!(!takes_no_time(fail(&mut c, "web")).await);
        // Nor does the right one come sooner, or it would be told from the wrong ones.
        let mut right = server.connect();
        assert!(!takes_no_time(right.ask("auth web web-secret", "200 OK")).await);
        // Another name is another program, whether or not there is such a user.
        for (line, answer) in [
            ("auth shop shop-secret", "200 OK"),
            ("auth nobody x", WRONG),
        ] {
            assert!(takes_no_time(server.connect().ask(line, answer)).await);
        }
        // It is forgotten.
        sleep_until(Instant::now() + PERIOD * WRONG_AT_ONCE).await;
        assert!(takes_no_time(fail(&mut b, "web")).await);
        assert!(takes_no_time(right.ask("auth web web-secret", "200 OK")).await);
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn right_passwords_are_not_slowed_down_however_many() {
        let server = server();
        let mut clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
        let all = async {
            for client in &mut clients {
                client.send("auth web web-secret").await;
            }
            for client in &mut clients {
                client.expect("200 OK").await;
            }
        };
        assert!(takes_no_time(all).await);
        server.stop().await;
    }

    /// Who names nobody names the user `default`, and has no tries of its own.
    #[tokio::test(start_paused = true)]
    async fn no_name_is_the_name_of_the_default() {
        let server = server();
        let (mut a, mut b, mut c) = (server.connect(), server.connect(), server.connect());
        for line in ["auth default wrong", "auth wrong"] {
            a.ask(line, WRONG).await;
            b.ask(line, WRONG).await;
        }
        c.ask("auth wrong", WRONG).await;
        assert!(!takes_no_time(c.ask("auth wrong", WRONG)).await);
        server.stop().await;
    }

    /// Whoever hangs up before the answer has tried all the same.
    #[tokio::test(start_paused = true)]
    async fn a_try_counts_from_before_it_is_looked_at() {
        let tries = Tries::default();
        let origin = (None, 7);
        for _ in 0..WRONG_AT_ONCE {
            let counted = timeout(Duration::ZERO, tries.count_one(origin)).await;
            assert!(counted.is_ok());
        }
        assert!(timeout(PERIOD / 2, tries.count_one(origin)).await.is_err());
        assert!(
            timeout(Duration::ZERO, tries.count_one((None, 8)))
                .await
                .is_ok()
        );
        // One of them was right: then those who wait may go on at once.
        tries.uncount_one(origin);
        tries.proven.notify_waiters();
        assert!(
            timeout(Duration::ZERO, tries.count_one(origin))
                .await
                .is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn origins_are_bounded_and_those_without_wrong_tries_are_none() {
        let tries = Tries::default();
        for name in 0..3 * ORIGINS as u64 {
            tries.count_one((None, name)).await;
        }
        assert!(tries.until().len() <= ORIGINS);
        tries.until().clear();
        tries.count_one((None, 1)).await;
        tries.uncount_one((None, 1));
        assert!(tries.until().is_empty());
    }

    #[tokio::test]
    async fn a_flood_from_one_address_keeps_one_check_at_a_time_and_others_go_on() {
        let passwords = Passwords::new(&Entropy::open().expect("randomness")).expect("randomness");
        let hash = crate::access::hash_password(b"right").expect("a hash");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("users.toml");
        let user =
            |name| format!("[users.{name}]\npassword='{hash}'\nrights=['lock']\nprefixes=['*']\n");
        let text = user("u") + &user("v");
        std::fs::write(&path, text).expect("it can be written");
        let files = crate::access::Files {
            users: Some(path),
            ..Default::default()
        };
        let users = Arc::new(files.read(&Users::anybody()).expect("good"));
        let address = |last| Some(IpAddr::from([10, 0, 0, last]));
        let verify = |name: &'static [u8], password: &'static [u8], from| {
            passwords.verify(|| Arc::clone(&users), Some(name), password, from)
        };
        let names: Vec<[u8; 2]> = (0..100_u8).map(|one| [b'x', one]).collect();
        let names: &'static [[u8; 2]] = names.leak();
        let mut flood: Vec<_> = names
            .iter()
            .map(|name| Box::pin(verify(name, b"wrong", address(1))))
            .collect();
        let begin_all = std::future::poll_fn(|context| {
            for one in &mut flood {
                assert!(one.as_mut().poll(context).is_pending());
            }
            std::task::Poll::Ready(())
        });
        begin_all.await;
        assert_eq!(passwords.checks.available_permits(), CHECKS_AT_ONCE - 1);
        // 100 checks are before it in the flood's queue, and none in its own.
        assert!(verify(b"u", b"right", address(2)).await.is_ok());
        let over = passwords
            .queues
            .iter()
            .map(|queue| queue.length.load(Ordering::Relaxed));
        assert!(over.sum::<usize>() >= 99, "the flood still waits");
        // Nor does a flood from everywhere keep that address from another login.
        let all = CHECKS_AT_ONCE as u32;
        let everywhere = passwords
            .checks
            .acquire_many(all)
            .await
            .expect("it is open");
        let login = timeout(30 * PERIOD, verify(b"v", b"right", address(2)));
        assert!(login.await.is_ok_and(|login| login.is_ok()));
        drop(everywhere);
        // Nor is that place the only one there is for such addresses.
        let proven = passwords.checks_of_proven.acquire().await;
        let login = timeout(30 * PERIOD, verify(b"u", b"wrong", address(2)));
        assert!(matches!(login.await, Ok(Err(NotLetIn::Wrong))));
        drop(proven);
    }

    #[tokio::test(start_paused = true)]
    async fn proven_addresses_are_bounded_and_forgotten() {
        let passwords = Passwords::new(&Entropy::open().expect("randomness")).expect("randomness");
        let address = |number: usize| Some(IpAddr::from((number as u32).to_be_bytes()));
        let now = Instant::now();
        (0..2 * ORIGINS).for_each(|number| passwords.prove(address(number), now));
        assert!(passwords.is_proven(address(0), now));
        assert!(!passwords.is_proven(address(ORIGINS), now));
        let later = now + PROVEN;
        assert!(!passwords.is_proven(address(0), later));
        passwords.prove(address(ORIGINS), later);
        assert!(passwords.is_proven(address(ORIGINS), later));
        assert_eq!(passwords.proven().until.len(), 1);
    }
}
