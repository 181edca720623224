//! A client: one connection for everything that does not wait, and others where something does.

use std::sync::Arc;
use std::time::Duration;

use crate::acquire::{Acquire, By};
use crate::address::Servers;
use crate::clock::Moment;
use crate::command::{
    Break, Command, Expire, ForceUnlock, GetInfo, GetLocks, GetSessions, Kick, Question, State,
    Token, Unlock, Watch,
};
use crate::error::{ConnectionError, Error};
use crate::keeper::Keeper;
use crate::listing::{Info, LockEntry, Page, SessionEntry};
use crate::options::Options;
use crate::pool::{Lane, Pool};
use crate::session::{Answers, Batch, Session, Wanted};

/// How long saying goodbye may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// A client of a lock server, to be used by many tasks at once, and cheap to clone.
///
/// Requests that do not wait share one connection. One that has to wait gets a connection of its own, so
/// that nobody's wait holds up another; the lock that comes of it stays with that connection, which is
/// used for the next wait when the lock is released. A connection that breaks is made anew, and its
/// session is resumed, so that locks are kept.
///
/// **Deadlocks** are found by the server between sessions, and each connection is one. So two tasks
/// that hold one lock each and wait for the other's are *not* told of it when they took their locks
/// by a client: their waits end by their time. Take locks that are held together with
/// [`Client::lock_all`], which cannot run into a circle, or in a [session](Client::session) of their own, by which deadlocks are
/// found.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    main: Arc<Session>,
    pool: Arc<Pool>,
    keeper: Arc<Keeper>,
    options: Arc<Options>,
}

impl Client {
    /// Connects to a server, or to the first of several that answers: `elock://host:port`,
    /// `elock+unix:/path`, separated by commas.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/server.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), elock_client::Error> {
    /// # let servers = server().await;
    /// use std::time::Duration;
    ///
    /// let client = elock_client::Client::connect(&servers).await?;
    /// let guard = client.lock("report").wait(Duration::from_secs(5)).await?;
    /// println!("I am number {}", guard.token());
    /// guard.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// No server answers, or the text names none. All of them are tried once; for a server that is just
    /// started again there is [`Options::keep_trying`].
    pub async fn connect(servers: &str) -> Result<Self, Error> {
        Options::new(servers.parse::<Servers>()?).connect().await
    }

    pub(crate) async fn start(options: Arc<Options>) -> Result<Self, Error> {
        let keeper = Keeper::start(&options);
        let main = keeper.new_session();
        let attempts = u32::try_from(options.servers.addresses().len()).unwrap_or(1);
        let once = options.patience().saturating_mul(attempts);
        let tried = main.ready(options.keep_trying, |error| !error.may_pass());
        match tried.await {
            // Each is tried once, however short the time is.
            Err(_) if main.failures() == 0 => main.ready(once, |_| true).await?,
            tried => tried?,
        }
        let pool = Pool::new(&keeper, options.max_connections);
        Ok(Self {
            inner: Arc::new(Inner {
                main,
                pool,
                keeper,
                options,
            }),
        })
    }

    /// Takes a lock: see [`Acquire`] for how long to wait, with whom it is shared, and so on.
    pub fn lock(&self, key: impl Into<Vec<u8>>) -> Acquire {
        Acquire::one(self.clone(), By::Any, key.into())
    }

    /// Takes all of these locks, or none. Any number of such requests never wait for each other in a
    /// circle, in whatever order they name the keys.
    pub fn lock_all<K: Into<Vec<u8>>>(&self, keys: impl IntoIterator<Item = K>) -> Acquire {
        let keys = distinct(keys);
        Acquire::several(self.clone(), By::Any, keys)
    }

    /// A session of its own, with a connection of its own: for work that holds one lock while it waits
    /// for another, so that the server finds its deadlocks.
    ///
    /// # Errors
    ///
    /// There is no connection to be had.
    pub async fn session(&self) -> Result<OwnSession, Error> {
        let lane = self.inner.pool.take()?;
        let within = self.inner.options.request_deadline;
        lane.session
            .ready(within, ConnectionError::is_stranger)
            .await?;
        Ok(OwnSession {
            client: self.clone(),
            lane: Arc::new(lane),
        })
    }

    /// Asks the server something.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/server.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), elock_client::Error> {
    /// # let client = elock_client::Client::connect(&server().await).await?;
    /// let stats = client.call(&elock_client::command::GetStats {}).await?;
    /// # let _ = stats;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Every answer but a `200`, as what it means.
    pub async fn call<Q: Question>(&self, question: &Q) -> Result<Q::Output, Error> {
        self.inner.main.question(question).await
    }

    /// The server, in numbers.
    ///
    /// # Errors
    ///
    /// As for [`Client::call`].
    pub async fn info(&self) -> Result<Info, Error> {
        self.call(&GetInfo {}).await
    }

    /// A page of the locks whose keys begin with these bytes; `after` is what the page before had as
    /// `next`.
    ///
    /// # Errors
    ///
    /// As for [`Client::call`].
    pub async fn locks(
        &self,
        prefix: &[u8],
        after: Option<Vec<u8>>,
    ) -> Result<Page<LockEntry>, Error> {
        let prefix = GetLocks::prefix_of(prefix);
        self.call(&GetLocks { prefix, after }).await
    }

    /// A page of the sessions; `after` is what the page before had as `next`.
    ///
    /// # Errors
    ///
    /// As for [`Client::call`].
    pub async fn sessions(&self, after: Option<Vec<u8>>) -> Result<Page<SessionEntry>, Error> {
        self.call(&GetSessions { after }).await
    }

    /// Who holds the key.
    ///
    /// # Errors
    ///
    /// As for [`Client::call`].
    pub async fn watch(&self, key: impl Into<Vec<u8>>) -> Result<State, Error> {
        let watch = Watch {
            key: key.into(),
            change: None,
        };
        self.inner.main.question(&watch).await
    }

    /// Waits until the key's state is another than the one that is known, no longer than that, and tells
    /// what it is then.
    ///
    /// # Errors
    ///
    /// As for [`Client::call`].
    pub async fn watch_change(
        &self,
        key: impl Into<Vec<u8>>,
        known: State,
        wait: Duration,
    ) -> Result<State, Error> {
        let (key, until) = (key.into(), Moment::now().plus(wait));
        let give_up = until.max(Moment::now().plus(self.inner.options.patience()));
        // A caller who goes away has the connection ended, on which the server would go on to watch.
        let lane = Leaving(self.inner.pool.take()?);
        let _wanted = Wanted::new(&self.inner.main.vital);
        loop {
            let session = &lane.0.session;
            session
                .ready(give_up.after(Moment::now()), ConnectionError::is_stranger)
                .await?;
            let watch = Watch {
                key: key.clone(),
                change: Some((known.clone(), until.after(Moment::now()))),
            };
            let asked = session.ask(Batch::one(&watch)?).await;
            match asked.map_err(Error::from).and_then(Answers::only) {
                Ok(answer) => return Watch::read(answer),
                Err(error) => error.pause_before(give_up).await?,
            }
        }
    }

    /// The token by which the owner holds the lock: whether it has it.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`] if it has not; otherwise as for [`Client::call`].
    pub async fn owner_token(
        &self,
        key: impl Into<Vec<u8>>,
        owner: impl Into<Vec<u8>>,
    ) -> Result<u64, Error> {
        let (key, owner) = (key.into(), Some(owner.into()));
        self.call(&Token { key, owner }).await
    }

    /// Releases a lock of an owner, whoever took it.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`] if the owner has it not; otherwise as for [`Client::call`].
    pub async fn unlock_owner(
        &self,
        key: impl Into<Vec<u8>>,
        owner: impl Into<Vec<u8>>,
    ) -> Result<(), Error> {
        let (key, owner) = (key.into(), Some(owner.into()));
        self.once(&Unlock { key, owner }).await
    }

    /// Gives a lock of an owner a lease from now on; zero: none.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`] if the owner has it not; otherwise as for [`Client::call`].
    pub async fn expire_owner(
        &self,
        key: impl Into<Vec<u8>>,
        owner: impl Into<Vec<u8>>,
        lease: Duration,
    ) -> Result<(), Error> {
        let (key, owner) = (key.into(), Some(owner.into()));
        self.once(&Expire { key, lease, owner }).await
    }

    /// Frees a lock that only owners hold, whoever they are.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`] if a session holds it, or nobody; otherwise as for [`Client::call`].
    pub async fn break_lock(&self, key: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.once(&Break { key: key.into() }).await
    }

    /// Takes a lock from whoever has it: sessions and owners, all who share it. A guard of it is lost.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`] if nobody holds it; otherwise as for [`Client::call`].
    pub async fn force_unlock(&self, key: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.once(&ForceUnlock { key: key.into() }).await
    }

    /// Ends a session, which is named by `#` and its number, or by what it is called: its connection is
    /// ended, and what it holds is free. Returns its number.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if there is none, or if several are called so, or if it is the one that this
    /// client uses for this; otherwise as for [`Client::call`].
    pub async fn kick(&self, who: impl Into<Vec<u8>>) -> Result<u64, Error> {
        self.once(&Kick { who: who.into() }).await
    }

    /// Sends what may not be sent twice: when the connection breaks, it may have been done or not.
    async fn once<C: Command>(&self, command: &C) -> Result<C::Output, Error> {
        let session = &self.inner.main;
        session
            .ready(
                self.inner.options.request_deadline,
                ConnectionError::is_stranger,
            )
            .await?;
        C::read(session.ask(Batch::one(command)?).await?.only()?)
    }

    /// Says goodbye, so that the server frees the client's sessions at once, and not after their grace
    /// periods. What is still to be released, and requests that were given up, are seen to before. It takes a
    /// second at most; guards that there still are keep their sessions.
    pub async fn close(self) {
        let vitals = self.inner.keeper.vitals();
        drop(self);
        let ended = async {
            for vital in vitals {
                vital.ended().await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_DEADLINE, ended).await;
    }

    pub(crate) fn main(&self) -> &Arc<Session> {
        &self.inner.main
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.inner.pool
    }

    /// The keeper looks again.
    pub(crate) fn ring(&self) {
        self.inner.keeper.ring();
    }
}

/// A session of its own: see [`Client::session`]. Its requests are served one after another, so one that
/// waits holds up those behind it, also a release; leases are made longer before it. When it is dropped
/// and its guards are, too, its connection is kept for the next one who needs one, or ends.
#[derive(Debug)]
pub struct OwnSession {
    client: Client,
    lane: Arc<Lane>,
}

impl OwnSession {
    /// As [`Client::lock`]. A key that this session holds already, by another guard, is
    /// [`Error::Unavailable`].
    pub fn lock(&self, key: impl Into<Vec<u8>>) -> Acquire {
        let by = By::This(Arc::clone(&self.lane));
        Acquire::one(self.client.clone(), by, key.into())
    }

    /// As [`Client::lock_all`].
    pub fn lock_all<K: Into<Vec<u8>>>(&self, keys: impl IntoIterator<Item = K>) -> Acquire {
        let by = By::This(Arc::clone(&self.lane));
        Acquire::several(self.client.clone(), by, distinct(keys))
    }

    /// The session's number, by which the server names it.
    pub fn number(&self) -> u64 {
        self.lane.session.vital.number()
    }
}

/// Ends what the lane's session waits for, if it waits, when it is dropped.
struct Leaving(Lane);

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.0.session.vital.waiting_since().is_some() {
            self.0.session.sever();
        }
    }
}

/// Each key once, in the order in which they were named.
fn distinct<K: Into<Vec<u8>>>(keys: impl IntoIterator<Item = K>) -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    for key in keys {
        let key = key.into();
        if !found.contains(&key) {
            found.push(key);
        }
    }
    found
}
