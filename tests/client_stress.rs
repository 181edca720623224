//! Many tasks of two clients take locks in every way, go away in the middle, and have their connections
//! cut and their server restarted: no lock is left behind, no answer goes to another's request, and
//! nobody believes to hold what another holds.
//!
//! `ELOCK_ROUNDS` makes it longer.
#![cfg(feature = "cli")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::PATIENCE;
use common::process::Process;
use common::proxy::Proxy;
use elock_client::command::Echo;
use elock_client::{Client, Error, Guard, Options};
use tempfile::TempDir;

const TASKS: u64 = 64;
const KEYS: u64 = 12;

/// How often each task does something.
fn rounds() -> u64 {
    let asked = std::env::var("ELOCK_ROUNDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(30)
}

/// Not random in any strict sense: enough to vary what happens.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

/// Who is in, by key: what the locks are to keep apart.
#[derive(Default)]
struct Room {
    /// The token of the last who was in alone.
    last_token: AtomicU64,
    /// Guards of those who are in.
    inside: Mutex<Vec<(u64, Arc<AtomicBool>)>>,
}

/// Goes in with a guard, and out again.
async fn visit(room: &Room, guard: &Guard) {
    let believes = Arc::new(AtomicBool::new(true));
    {
        let mut inside = room.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if !guard.is_held() {
            return;
        }
        for (token, other) in inside.iter() {
            let both = other.load(Ordering::SeqCst);
            assert!(!both, "{token} and {} are in at once", guard.token());
        }
        let before = room.last_token.fetch_max(guard.token(), Ordering::SeqCst);
        assert!(before <= guard.token(), "a token that does not grow");
        inside.push((guard.token(), Arc::clone(&believes)));
    }
    tokio::task::yield_now().await;
    believes.store(false, Ordering::SeqCst);
    let mut inside = room.inside.lock().unwrap_or_else(PoisonError::into_inner);
    inside.retain(|(_, other)| !Arc::ptr_eq(other, &believes));
}

async fn task(number: u64, client: Client, rooms: Arc<Vec<Room>>) -> u64 {
    let mut dice = Dice(number + 1);
    let mut visits = 0;
    for round in 0..rounds() {
        let key = dice.roll(KEYS);
        let name = format!("key-{key}");
        let wait = Duration::from_millis(dice.roll(3) * 50);
        let asked = match dice.roll(5) {
            0 => client.lock(name).wait(wait).lease(PATIENCE),
            1 => client.lock_all([name, "several".to_owned()]).wait(wait),
            _ => client.lock(name).wait(wait),
        };
        let taken = match dice.roll(4) {
            // Whoever asked goes away, at some point of the way.
            0 => {
                let patience = Duration::from_micros(dice.roll(20_000));
                match tokio::time::timeout(patience, asked.into_future()).await {
                    Ok(taken) => taken,
                    Err(_) => continue,
                }
            }
            _ => asked.await,
        };
        match taken {
            Ok(guard) => {
                visit(&rooms[usize::try_from(key).expect("few")], &guard).await;
                visits += 1;
                match dice.roll(2) {
                    0 => drop(guard),
                    _ => match guard.release().await {
                        Ok(()) | Err(Error::Connection(_) | Error::Lost { .. }) => {}
                        Err(error) => panic!("released: {error}"),
                    },
                }
            }
            Err(Error::Unavailable | Error::Connection(_) | Error::ShuttingDown) => {}
            Err(error) => panic!("{error}"),
        }
        let word = format!("{number}-{round}");
        let echo = Echo {
            words: vec![word.clone().into_bytes()],
        };
        match client.call(&echo).await {
            Ok(answer) => assert_eq!(answer, format!("[\"{word}\"]")),
            Err(Error::Connection(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    visits
}

fn start(directory: &TempDir) -> Process {
    let path = directory.path().to_str().expect("a path");
    Process::start(&["--data-dir", path])
}

#[test]
fn nothing_is_left_behind_and_nobody_is_in_with_another() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let directory = tempfile::tempdir().expect("a temporary directory");
    runtime.block_on(async {
        let mut server = start(&directory);
        let proxy = Proxy::start(server.address).await;
        let rooms: Arc<Vec<Room>> = Arc::new((0..KEYS).map(|_| Room::default()).collect());
        let mut clients = Vec::new();
        for _ in 0..2 {
            let options = Options::new(proxy.address.to_string().parse().expect("an address"));
            clients.push(options.grace(PATIENCE).connect().await.expect("connected"));
        }
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..TASKS {
            let client = clients[usize::try_from(number).expect("few") % 2].clone();
            tasks.spawn(task(number, client, Arc::clone(&rooms)));
        }
        let (mut visits, mut ended, mut faults) = (0, 0, 0);
        let mut tick = tokio::time::interval(Duration::from_millis(30));
        while ended < TASKS {
            tokio::select! {
                joined = tasks.join_next() => {
                    visits += joined.expect("one more").expect("no panic");
                    ended += 1;
                }
                _ = tick.tick() => {
                    faults += 1;
                    if faults % 20 == 0 {
                        server.signal("KILL");
                        server.exit_code();
                        server = start(&directory);
                        proxy.point_at(server.address);
                    }
                    proxy.cut();
                }
            }
        }
        assert!(visits > 0 && faults > 0);
        eprintln!("{visits} visits, {faults} cuts and restarts");
        // What was dropped is released in the background, and on the next connection at the latest.
        for client in &clients {
            client.info().await.expect("connected again");
        }
        server.connect().until("no lock is left", |lines| {
            !lines
                .iter()
                .any(|line| line.starts_with("LOCK ") || line.starts_with("REQUEST "))
        });
    });
}
