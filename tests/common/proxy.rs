//! Stands between clients and a server, and is a bad network when told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a slow network takes.
const DELAY: Duration = Duration::from_millis(150);

/// What becomes of bytes, and of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Bytes pass.
    Works,
    /// Bytes pass, each time after [`DELAY`].
    IsSlow,
    /// Connections stand, also new ones, and nothing passes.
    Silent,
    /// New connections are closed at once.
    Refuses,
}

/// What passes on the connections that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fate {
    /// Those that were made before so many cuts are ended.
    cuts: u64,
    /// Those that were made before so many of these lose what comes from the server from then on,
    swallows: u64,
    /// but for so many of the first.
    spared: u64,
}

/// Ends, with all its connections, when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    network: watch::Sender<Network>,
    fate: watch::Sender<Fate>,
}

impl Proxy {
    /// In the runtime of whoever calls.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let proxy = Self {
            address: listener.local_addr().expect("bound"),
            target: Arc::new(Mutex::new(target)),
            network: watch::Sender::new(Network::Works),
            fate: watch::Sender::new(Fate {
                cuts: 0,
                swallows: 0,
                spared: 0,
            }),
        };
        let (target, network) = (Arc::clone(&proxy.target), proxy.network.subscribe());
        let fate = proxy.fate.subscribe();
        tokio::spawn(async move {
            let mut ended = fate.clone();
            let mut number = 0;
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (client, _) = accepted.expect("a connection");
                        let target = *target.lock().unwrap_or_else(PoisonError::into_inner);
                        tokio::spawn(join(number, client, target, network.clone(), fate.clone()));
                        number += 1;
                    }
                    changed = ended.changed() => if changed.is_err() { return },
                }
            }
        });
        proxy
    }

    /// For connections from now on, and bytes that have not passed yet.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// For new connections; on those that there are, bytes pass.
    pub fn set_for_new(&self, network: Network) {
        assert!(network != Network::Silent, "that is for all");
        self.set(network);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.fate.send_modify(|fate| fate.cuts += 1);
    }

    /// Nothing comes back any more on the connections that there are; they stand.
    pub fn swallow(&self) {
        self.swallow_but(0);
    }

    /// The same, but for so many of the first connections.
    pub fn swallow_but(&self, spared: u64) {
        self.fate.send_modify(|fate| {
            fate.swallows += 1;
            fate.spared = spared;
        });
    }

    /// Whither new connections go.
    pub fn point_at(&self, target: SocketAddr) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }
}

async fn join(
    number: u64,
    client: TcpStream,
    target: SocketAddr,
    network: watch::Receiver<Network>,
    mut fate: watch::Receiver<Fate>,
) {
    if *network.borrow() == Network::Refuses {
        return;
    }
    let begun = *fate.borrow_and_update();
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a socket");
    }
    let mut cut = fate.clone();
    let becomes = |is_answer| {
        let now = *fate.borrow();
        let is_swallowed = is_answer && now.swallows > begun.swallows && number >= now.spared;
        match () {
            () if now.cuts > begun.cuts => Passage::Ended,
            () if is_swallowed => Passage::Swallowed,
            () => Passage::Open,
        }
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pass(from_client, to_server, network.clone(), || becomes(false)) => {}
        () = pass(from_server, to_client, network, || becomes(true)) => {}
        _ = cut.wait_for(|now| now.cuts > begun.cuts) => {}
    }
}

/// What becomes of bytes that have come.
enum Passage {
    Open,
    Swallowed,
    /// The connection was cut, although its task may not have been woken for that yet: whatever is sent
    /// after a cut must not pass.
    Ended,
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    becomes: impl Fn() -> Passage,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if *network.borrow() == Network::IsSlow {
            tokio::time::sleep(DELAY).await;
        }
        if network
            .wait_for(|now| *now != Network::Silent)
            .await
            .is_err()
        {
            return;
        }
        match becomes() {
            Passage::Open if to.write_all(&buffer[..count]).await.is_ok() => {}
            Passage::Swallowed => {}
            Passage::Open | Passage::Ended => return,
        }
    }
}
