//! The client library where connections break, fall silent or vanish, and servers restart.
//!
//! A guard may be called lost too early, but never too late: in each test another client waits for the
//! lock, and when it gets it, the guard must say lost already.
#![cfg(feature = "cli")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::process::Process;
use common::proxy::{Network, Proxy};
use common::{Client as Raw, PATIENCE, Server, run};
use elock_client::command::State;
use elock_client::{Client, Error, Guard, Loss, Options};

const WAIT: Duration = PATIENCE;
/// As short as it may be: for locks that are to be lost.
const GRACE: Duration = Duration::from_secs(1);
/// For locks that are to be kept, although this machine may be busy with something else for a second.
const LONG: Duration = Duration::from_secs(4);
/// To wait in vain for what is kept for longer than a grace period or a lease.
const LONGER: Duration = Duration::from_secs(5);

fn options(address: SocketAddr) -> Options {
    Options::new(address.to_string().parse().expect("an address")).grace(GRACE)
}

async fn connect(address: SocketAddr) -> Client {
    options(address).connect().await.expect("a server answers")
}

async fn connect_with(address: SocketAddr, grace: Duration) -> Client {
    let connected = options(address).grace(grace).connect().await;
    connected.expect("a server answers")
}

/// Waits for the lock by a client with a connection that works, and looks at the guard when it has it.
async fn next_holder(address: SocketAddr, key: &str, guard: &Guard) {
    let next = connect(address).await.lock(key).wait(WAIT).await;
    assert!(!guard.is_held(), "another has the lock");
    let next = next.expect("its turn");
    assert!(next.token() > guard.token());
}

fn info(address: SocketAddr, name: &str) -> u64 {
    let lines = Raw::connect(address).ask_list("info");
    let value = lines.iter().find_map(|line| line.strip_prefix(name));
    value.expect("a line").trim().parse().expect("a number")
}

/// How often a session was, also from a connection that the server still believed in.
fn resumed(address: SocketAddr) -> u64 {
    info(address, "resumes ") + info(address, "take_overs ")
}

#[test]
fn a_connection_that_is_cut_is_resumed_with_its_locks() {
    let server = Server::start();
    run(async {
        let proxy = Proxy::start(server.address).await;
        let client = connect_with(proxy.address, WAIT).await;
        let guard = client.lock("k").await.expect("free");
        let lease = client.lock("lease").lease(WAIT).await.expect("free");
        for _ in 0..10 {
            proxy.cut();
            client.info().await.expect("connected again");
            assert!(guard.is_held() && lease.is_held());
        }
        assert!(resumed(server.address) >= 10);
        let state = client.watch("k").await.expect("an answer");
        assert!(format!("{state:?}").contains(&guard.token().to_string()));
        guard.release().await.expect("it was held");
        lease.release().await.expect("it was held");
    });
}

#[test]
fn what_others_released_meanwhile_is_known_when_the_connection_is_back() {
    let server = Server::start();
    run(async {
        let proxy = Proxy::start(server.address).await;
        let client = connect_with(proxy.address, WAIT).await;
        let guard = client.lock("k").owner("me").await.expect("free");
        let kept = client.lock("other").owner("me").await.expect("free");
        proxy.set(Network::Silent);
        let other = connect(server.address).await;
        other.unlock_owner("k", "me").await.expect("held");
        assert!(guard.is_held(), "nobody has told");
        proxy.set(Network::Works);
        proxy.cut();
        client.info().await.expect("connected again");
        assert!(!guard.is_held());
        assert!(kept.is_held());
        assert_eq!(guard.lost().await, Loss::Released);
    });
}

#[test]
fn a_connection_that_falls_silent_is_made_anew() {
    let server = Server::start();
    run(async {
        let proxy = Proxy::start(server.address).await;
        let options = options(proxy.address).grace(LONG);
        let client = options.connect().await.expect("connected");
        let guard = client.lock("k").await.expect("free");
        // The server has that connection still, and takes whatever comes by it.
        proxy.swallow();
        while resumed(server.address) == 0 {
            assert!(guard.is_held());
            tokio::task::yield_now().await;
        }
        assert!(guard.is_held());
        guard.release().await.expect("it was held");
    });
}

#[test]
fn a_lock_is_lost_before_another_can_have_it_when_the_network_is_gone() {
    let server = Server::start();
    for network in [Network::Silent, Network::Refuses] {
        run(async {
            let proxy = Proxy::start(server.address).await;
            let client = connect(proxy.address).await;
            let guard = client.lock("k").await.expect("free");
            let lost = guard.lost();
            proxy.set(network);
            proxy.cut();
            next_holder(server.address, "k", &guard).await;
            assert_eq!(lost.await, Loss::NotResumed);
            // It is too late, also if the network is back.
            proxy.set(Network::Works);
            let released = guard.release().await;
            assert!(matches!(
                released,
                Err(Error::Lost {
                    why: Loss::NotResumed
                })
            ));
            drop(client.lock("other").await.expect("connected again"));
        });
    }
}

#[test]
fn a_lease_ends_for_its_guard_before_it_ends_for_others() {
    let server = Server::start();
    run(async {
        let proxy = Proxy::start(server.address).await;
        let grace = Duration::from_secs(60);
        let client = connect_with(proxy.address, grace).await;
        let guard = client.lock("k").lease(LONG).await.expect("free");
        // It is renewed for as long as the network works.
        let other = connect(server.address).await;
        let refused = other.lock("k").wait(LONGER).await;
        assert!(matches!(refused, Err(Error::Unavailable)));
        assert!(guard.is_held());
        let lost = guard.lost();
        proxy.set(Network::Silent);
        next_holder(server.address, "k", &guard).await;
        assert_eq!(lost.await, Loss::LeaseEnded);
    });
}

#[test]
fn the_longest_hold_of_a_server_is_a_lease_that_the_client_knows_of() {
    let server = Server::start_with(|config| config.max_hold_ms = 4_000);
    run(async {
        let proxy = Proxy::start(server.address).await;
        let grace = Duration::from_secs(60);
        let client = connect_with(proxy.address, grace).await;
        let guard = client.lock("k").await.expect("free");
        let long = client.lock("long").lease(WAIT).await.expect("free");
        let other = connect(server.address).await;
        let refused = other.lock("k").wait(LONGER).await;
        assert!(matches!(refused, Err(Error::Unavailable)));
        assert!(guard.is_held() && long.is_held());
        proxy.set(Network::Silent);
        next_holder(server.address, "k", &guard).await;
        next_holder(server.address, "long", &long).await;
    });
}

#[test]
fn a_request_that_waits_is_asked_anew_when_its_connection_breaks() {
    let server = Server::start();
    run(async {
        let proxy = Proxy::start(server.address).await;
        let (client, holder) = (connect(proxy.address).await, connect(server.address).await);
        let held = holder.lock("k").await.expect("free");
        let waiting = tokio::spawn(client.lock("k").wait(WAIT).into_future());
        server.until_waiting(1);
        proxy.cut();
        server.until_waiting(1);
        held.release().await.expect("it was held");
        let guard = waiting.await.expect("no panic").expect("its turn");
        assert!(guard.is_held());
    });
}

#[test]
fn a_release_that_did_not_arrive_is_sent_again_on_the_next_connection() {
    let server = Server::start();
    run(async {
        let proxy = Proxy::start(server.address).await;
        let client = connect_with(proxy.address, 2 * WAIT).await;
        let (dropped, released) = (client.lock("k").await, client.lock("other").await);
        let (dropped, released) = (dropped.expect("free"), released.expect("free"));
        proxy.set(Network::Silent);
        drop(dropped);
        let released = tokio::spawn(released.release());
        proxy.cut();
        proxy.set(Network::Works);
        // The session itself would keep them for longer than this waits.
        let both = connect(server.address)
            .await
            .lock_all(["k", "other"])
            .wait(WAIT)
            .await;
        drop(both.expect("its turn"));
        released
            .await
            .expect("no panic")
            .expect("it was held all the time");
    });
}

/// The server grants it, and the answer is lost; the caller has no patience for another connection.
#[test]
fn a_grant_that_nobody_was_told_of_is_given_back() {
    let server = Server::start();
    run(async {
        let proxy = Proxy::start(server.address).await;
        let options = options(proxy.address).grace(2 * WAIT);
        let client = options
            .request_deadline(GRACE)
            .connect()
            .await
            .expect("connected");
        proxy.swallow();
        proxy.set_for_new(Network::Refuses);
        let asked = client.lock("k").await;
        assert!(matches!(asked, Err(Error::Connection(_))), "{asked:?}");
        let other = connect(server.address).await;
        assert!(
            matches!(other.lock("k").await, Err(Error::Unavailable)),
            "the session has it"
        );
        proxy.set_for_new(Network::Works);
        drop(other.lock("k").wait(WAIT).await.expect("given back"));
    });
}

#[test]
fn a_grant_that_came_when_nobody_waited_any_more_is_given_back() {
    let server = Server::start();
    run(async {
        let proxy = Proxy::start(server.address).await;
        let client = connect_with(proxy.address, 2 * WAIT).await;
        let holder = connect(server.address).await;
        let held = holder.lock("k").await.expect("free");
        let waiting = tokio::spawn(client.lock("k").wait(WAIT).into_future());
        server.until_waiting(1);
        proxy.swallow();
        held.release().await.expect("it was held");
        server.until_waiting(0);
        waiting.abort();
        drop(holder.lock("k").wait(WAIT).await.expect("given back"));
    });
}

/// The grant goes into a connection that stands and of which nothing comes back.
#[test]
fn a_grant_that_was_swallowed_by_the_network_is_asked_for_again() {
    // All the client's connections are silent, or the one that waits.
    swallowed(0);
    swallowed(1);
}

fn swallowed(spared: u64) {
    let server = Server::start();
    run(async {
        let proxy = Proxy::start(server.address).await;
        let (client, holder) = (connect(proxy.address).await, connect(server.address).await);
        let held = holder.lock("k").await.expect("free");
        let waiting = tokio::spawn(client.lock("k").wait(WAIT).into_future());
        server.until_waiting(1);
        proxy.swallow_but(spared);
        held.release().await.expect("it was held");
        let guard = waiting.await.expect("no panic").expect("its turn");
        assert!(guard.is_held());
        assert!(matches!(holder.lock("k").await, Err(Error::Unavailable)));
    });
}

#[test]
fn locks_of_a_session_that_waits_are_held_for_longer_than_its_grace_period() {
    let server = Server::start();
    run(async {
        let other = connect(server.address).await;
        let client = connect_with(server.address, LONG).await;
        let session = client.session().await.expect("a connection");
        let guard = session.lock("a").await.expect("free");
        let lease = session.lock("lease").lease(LONG).await.expect("free");
        let _held = other.lock("b").await.expect("free");
        let refused = session.lock("b").wait(LONGER).await;
        assert!(matches!(refused, Err(Error::Unavailable)));
        assert!(guard.is_held() && lease.is_held());
        guard.release().await.expect("it was held");
        lease.release().await.expect("it was held");
    });
}

#[test]
fn a_restart_with_a_store_is_a_reconnect() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_str().expect("a path");
    let start = || Process::start(&["--data-dir", path]);
    run(async {
        let mut server = start();
        let proxy = Proxy::start(server.address).await;
        let client = connect_with(proxy.address, WAIT).await;
        let guard = client.lock("k").await.expect("free");
        let waiter = connect_with(proxy.address, WAIT).await;
        let waiting = tokio::spawn(waiter.lock("k").wait(WAIT).into_future());
        for stop in ["KILL", "TERM"] {
            server.signal(stop);
            server.exit_code();
            server = start();
            proxy.point_at(server.address);
            client.info().await.expect("connected again");
            assert!(guard.is_held());
            let raw = &mut server.connect();
            raw.ask("lock k", "409 Unavailable");
            raw.until("the wait goes on", |lines| {
                lines.iter().any(|line| line.starts_with("REQUEST "))
            });
        }
        guard.release().await.expect("it was held");
        drop(waiting.await.expect("no panic").expect("its turn"));
    });
}

#[test]
fn a_restart_without_a_store_is_a_loss() {
    run(async {
        let server = Process::start(&[]);
        let address = server.address;
        let client = options(address)
            .grace(WAIT)
            .connect()
            .await
            .expect("connected");
        let guard = client.lock("k").await.expect("free");
        let owned = client.lock("owned").owner("me").await.expect("free");
        let (lost, owned_lost) = (guard.lost(), owned.lost());
        server.kill();
        // Nobody listens there any more, and that server kept nothing.
        assert_eq!(lost.await, Loss::ServerGone);
        assert_eq!(owned_lost.await, Loss::ServerGone);
        let server = Process::start(&["--listen", &address.to_string()]);
        drop(client.lock("k").await.expect("connected again"));
        server.signal("TERM");
    });
}

#[test]
fn another_server_that_knows_nothing_of_the_session_is_a_loss() {
    let (first, second) = (Server::start(), Server::start());
    run(async {
        let proxy = Proxy::start(first.address).await;
        let client = connect_with(proxy.address, WAIT).await;
        let guard = client.lock("k").await.expect("free");
        proxy.point_at(second.address);
        proxy.cut();
        assert_eq!(guard.lost().await, Loss::SessionEnded);
        // By name, in the order of preference.
        let both = format!("{},{}", first.address, second.address);
        let client = Client::connect(&both).await.expect("connected");
        assert_eq!(client.info().await.expect("an answer").number("locks"), 1);
    });
}

#[test]
fn what_is_no_server_and_what_is_no_option_is_an_error_at_once() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let refused = Client::connect(&address.to_string()).await;
        assert!(matches!(refused, Err(Error::Connection(_))), "{refused:?}");
        assert!(Client::connect("http://h").await.is_err());
        for bad in [
            options(address).grace(GRACE / 2),
            options(address).name("two words"),
            options(address).name(vec![b'n'; 129]),
        ] {
            let refused = bad.connect().await;
            assert!(
                matches!(refused, Err(Error::BadOption(_) | Error::BadWord(_))),
                "{refused:?}"
            );
        }
    });
}

#[test]
fn a_longest_hold_that_came_with_a_restart_is_a_lease_from_then_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_str().expect("a path");
    run(async {
        let mut server = Process::start(&["--data-dir", path]);
        let proxy = Proxy::start(server.address).await;
        let client = connect_with(proxy.address, WAIT).await;
        let guard = client.lock("k").await.expect("free");
        let long = client.lock("long").lease(WAIT).await.expect("free");
        server.signal("TERM");
        server.exit_code();
        let server = Process::start(&["--data-dir", path, "--max-hold-ms", "4000"]);
        proxy.point_at(server.address);
        client.info().await.expect("connected again");
        let refused = connect(server.address).await.lock("k").wait(LONGER).await;
        assert!(matches!(refused, Err(Error::Unavailable)));
        assert!(guard.is_held() && long.is_held());
        proxy.set(Network::Silent);
        next_holder(server.address, "k", &guard).await;
        next_holder(server.address, "long", &long).await;
    });
}

#[test]
fn a_session_that_waits_among_many_keeps_its_locks() {
    let server = Server::start();
    run(async {
        let holder = connect(server.address).await;
        let _held = holder.lock("b").await.expect("free");
        let client = connect_with(server.address, LONG).await;
        let asked = || tokio::spawn(client.lock("b").wait(WAIT).into_future());
        let others: Vec<_> = (0..40).map(|_| asked()).collect();
        server.until_waiting(others.len());
        let session = client.session().await.expect("a connection");
        let guard = session.lock("a").await.expect("free");
        let refused = session.lock("b").wait(LONGER).await;
        assert!(matches!(refused, Err(Error::Unavailable)));
        assert!(guard.is_held());
        for other in others {
            other.abort();
        }
    });
}

/// Whoever lost it may need time to end what it does.
#[test]
fn a_lost_lock_is_released_when_its_guard_is() {
    let server = Server::start();
    run(async {
        let proxy = Proxy::start(server.address).await;
        let client = connect(proxy.address).await;
        let guard = client.lock_all(["a", "b"]).await.expect("free");
        // The server does not notice.
        proxy.set(Network::Silent);
        assert_eq!(guard.lost().await, Loss::NotResumed);
        proxy.set(Network::Works);
        client.info().await.expect("connected");
        let other = connect(server.address).await;
        for key in ["a", "b"] {
            let refused = other.lock(key).await;
            assert!(matches!(refused, Err(Error::Unavailable)), "{key}");
        }
        drop(guard);
        drop(
            other
                .lock_all(["a", "b"])
                .wait(WAIT)
                .await
                .expect("released"),
        );
    });
}

#[test]
fn a_late_release_by_an_owner_word_does_not_hit_the_next_lock_of_that_word() {
    let server = Server::start();
    run(async {
        let proxy = Proxy::start(server.address).await;
        let client = connect_with(proxy.address, WAIT).await;
        let guard = client
            .lock("k")
            .owner("job")
            .lease(GRACE)
            .await
            .expect("free");
        proxy.set(Network::Refuses);
        proxy.cut();
        drop(guard);
        let other = connect(server.address).await;
        let next = other.lock("k").owner("job").lease(WAIT).wait(WAIT).await;
        let next = next.expect("the lease has ended");
        proxy.set(Network::Works);
        client.info().await.expect("connected again");
        assert_eq!(
            other.owner_token("k", "job").await.expect("held"),
            next.token()
        );
    });
}

/// Waits until the server shows the lock so, in `debug`.
fn until_locked(server: &Server, lock: &str) {
    server.until(lock, |lines| {
        lines.iter().any(|line| line.starts_with(lock))
    });
}

#[test]
fn a_grant_to_a_word_of_its_own_is_known_after_its_answer_was_lost() {
    let server = Server::start();
    run(async {
        let proxy = Proxy::start(server.address).await;
        let (client, other) = (connect(proxy.address).await, connect(server.address).await);
        for lease in [None, Some(WAIT)] {
            let word = format!("mine-{lease:?}").replace(' ', "");
            let mut lock = client.lock("k").wait(WAIT).unique_owner(word.clone());
            if let Some(lease) = lease {
                lock = lock.lease(lease);
            }
            proxy.swallow();
            let asked = tokio::spawn(lock.into_future());
            until_locked(&server, &format!("LOCK k @{word}"));
            proxy.cut();
            let guard = asked.await.expect("no panic").expect("it was granted");
            let token = other.owner_token("k", word).await.expect("held");
            assert_eq!(guard.token(), token);
            // Its release may be sent twice, too.
            proxy.swallow();
            let released = tokio::spawn(guard.release());
            server.until("it is free", |lines| {
                !lines.iter().any(|line| line.starts_with("LOCK k "))
            });
            proxy.cut();
            released.await.expect("no panic").expect("it was held");
        }
    });
}

/// Another may use the word, and have got it by that.
#[test]
fn a_grant_to_a_word_that_others_use_is_in_doubt_after_its_answer_was_lost() {
    let server = Server::start();
    run(async {
        let proxy = Proxy::start(server.address).await;
        let client = connect(proxy.address).await;
        proxy.swallow();
        let lock = client.lock("k").wait(WAIT).owner("job");
        let asked = tokio::spawn(lock.into_future());
        until_locked(&server, "LOCK k @job");
        proxy.cut();
        let asked = asked.await.expect("no panic");
        assert!(matches!(asked, Err(Error::Connection(_))), "{asked:?}");
        client.owner_token("k", "job").await.expect("it is held");
    });
}

#[test]
fn a_request_for_an_owner_that_was_not_granted_is_asked_again() {
    run(async {
        let first = Process::start(&[]);
        let proxy = Proxy::start(first.address).await;
        let client = connect(proxy.address).await;
        first.signal("STOP");
        let asked = tokio::spawn(client.lock("k").wait(WAIT).owner("job").into_future());
        // Behind that request, to a server that reads nothing.
        let late = tokio::time::timeout(GRACE / 4, client.info()).await;
        assert!(late.is_err(), "nothing is answered");
        let second = Process::start(&[]);
        proxy.point_at(second.address);
        first.kill();
        let guard = asked.await.expect("no panic").expect("free");
        assert!(guard.is_held());
    });
}

#[test]
fn a_watch_goes_on_after_a_restart() {
    run(async {
        let mut first = Process::start(&[]);
        let proxy = Proxy::start(first.address).await;
        let client = connect(proxy.address).await;
        let watching = tokio::spawn(async move {
            let changed = client.watch_change("k", State::Free, WAIT);
            changed.await.expect("an answer, in time")
        });
        while info(first.address, "watchers ") == 0 {
            tokio::task::yield_now().await;
        }
        let second = Process::start(&[]);
        proxy.point_at(second.address);
        first.signal("TERM");
        assert_eq!(first.exit_code(), Some(0));
        while info(second.address, "watchers ") == 0 {
            tokio::task::yield_now().await;
        }
        second.connect().ask("lock k", "200 Acquired");
        assert_ne!(watching.await.expect("no panic"), State::Free);
    });
}
