//! The client library against a real server.
#![cfg(feature = "cli")]

mod common;

use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::time::Duration;

use common::{PATIENCE, Server, run};
use elock_client::command::{Echo, Lock, Mode, State};
use elock_client::{Address, Client, Connection, Error, Loss, NotHeld, Options};

const WAIT: Duration = PATIENCE;

async fn connect(server: &Server) -> Client {
    let address = server.address.to_string();
    Client::connect(&address).await.expect("the server answers")
}

#[test]
fn a_lock_is_taken_known_by_its_token_and_released() {
    let server = Server::start();
    run(async {
        let (one, other) = (connect(&server).await, connect(&server).await);
        let guard = one.lock("k").await.expect("free");
        assert!(guard.is_held());
        assert_eq!((guard.key(), guard.keys().len()), (&b"k"[..], 1));
        let state = other.watch("k").await.expect("an answer");
        assert!(matches!(state, State::Held { token, .. } if token == guard.token()));
        assert!(matches!(other.lock("k").await, Err(Error::Unavailable)));
        let before = guard.token();
        guard.release().await.expect("it was held");
        let guard = other.lock("k").await.expect("free again");
        assert!(guard.token() > before);
    });
}

/// What a server says that has looked in vain for one that leads.
#[test]
fn a_server_that_knows_no_leader_is_passed_over() {
    let server = Server::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let without = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            stream.write_all(b"503 No leader\r\n").expect("room");
            // It is told before it closes.
            stream.shutdown(Shutdown::Write).expect("it is open");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    run(async {
        let both = format!("{without},{}", server.address);
        let client = Client::connect(&both).await.expect("one of them serves");
        assert!(client.lock("k").await.expect("free").is_held());
        let refused = Client::connect(&without.to_string()).await;
        let said = refused.expect_err("nobody leads").to_string();
        assert!(said.contains("No leader"), "{said}");
    });
}

#[test]
fn a_guard_that_is_dropped_releases_and_one_who_waits_is_next() {
    let server = Server::start();
    run(async {
        let (one, other) = (connect(&server).await, connect(&server).await);
        let guard = one.lock("k").await.expect("free");
        let waiting = tokio::spawn(other.lock("k").wait(WAIT).into_future());
        server.until_waiting(1);
        drop(guard);
        let next = waiting.await.expect("no panic").expect("its turn");
        assert!(next.is_held());
        next.release().await.expect("it was held");
        assert!(matches!(one.watch("k").await, Ok(State::Free)));
    });
}

#[test]
fn tasks_of_one_client_exclude_each_other_as_those_of_two_do() {
    let server = Server::start();
    run(async {
        let client = connect(&server).await;
        let guard = client.lock("k").await.expect("free");
        assert!(matches!(client.lock("k").await, Err(Error::Unavailable)));
        let waiting = tokio::spawn(client.lock("k").wait(WAIT).into_future());
        server.until_waiting(1);
        // The wait of one does not hold up the others.
        let other = client.lock("other").await.expect("free");
        drop((guard, other));
        drop(waiting.await.expect("no panic").expect("its turn"));
    });
}

#[test]
fn a_future_that_is_dropped_while_it_waits_leaves_the_queue_and_no_lock() {
    let server = Server::start();
    run(async {
        let (one, other) = (connect(&server).await, connect(&server).await);
        let guard = one.lock("k").await.expect("free");
        let waiting = tokio::spawn(other.lock("k").wait(WAIT).into_future());
        server.until_waiting(1);
        waiting.abort();
        server.until_waiting(0);
        guard.release().await.expect("it was held");
        drop(one.lock("k").await.expect("nobody has it"));
    });
}

#[test]
fn modes_and_several_keys() {
    let server = Server::start();
    run(async {
        let (one, other) = (connect(&server).await, connect(&server).await);
        let read = one.lock("doc").shared("r").await.expect("free");
        let read_too = other.lock("doc").shared("r").await.expect("shared");
        assert!(matches!(read.promote().await, Err(Error::Unavailable)));
        read_too.release().await.expect("held");
        read.promote().await.expect("alone");
        assert!(other.lock("doc").shared("r").await.is_err());
        read.demote("r").await.expect("exclusive");
        let read_too = other.lock("doc").shared("r").await.expect("shared");
        drop((read, read_too));

        let seats = [
            one.lock("seats").slots(2).await,
            other.lock("seats").slots(2).await,
        ];
        assert!(seats.iter().all(Result::is_ok));
        assert!(matches!(
            one.lock("seats").slots(2).await,
            Err(Error::Unavailable)
        ));

        let both = one.lock_all(["b", "a", "b"]).await.expect("free");
        assert_eq!(both.keys(), [b"b".to_vec(), b"a".to_vec()]);
        assert_eq!(both.tokens().len(), 2);
        assert!(matches!(
            other.lock_all(["a", "c"]).await,
            Err(Error::Unavailable)
        ));
        both.release().await.expect("held");
        let all = other.lock_all(["a", "c"]).lease(WAIT).await;
        drop(all.expect("free"));
    });
}

#[test]
fn a_lock_of_an_owner_is_anyones_to_release_and_its_guard_learns_of_it() {
    let server = Server::start();
    run(async {
        let options = Options::new(server.address.to_string().parse().expect("an address"));
        let one = options
            .grace(Duration::from_secs(1))
            .connect()
            .await
            .expect("connected");
        let other = connect(&server).await;
        let guard = one.lock("k").owner("job-7").await.expect("free");
        assert_eq!(
            other.owner_token("k", "job-7").await.expect("held"),
            guard.token()
        );
        let lost = guard.lost();
        other.unlock_owner("k", "job-7").await.expect("held");
        assert_eq!(lost.await, Loss::Released);
        assert!(!guard.is_held());
        let gone = other.unlock_owner("k", "job-7").await;
        assert!(matches!(gone, Err(Error::NotHeld(NotHeld::NotLocked))));

        let guard = one
            .lock("k")
            .owner("job-8")
            .lease(WAIT)
            .await
            .expect("free");
        guard.leave().expect("an owner's");
        other.break_lock("k").await.expect("an owner's");
    });
}

#[test]
fn a_deadlock_is_found_between_sessions_of_one_client() {
    let server = Server::start();
    run(async {
        let client = connect(&server).await;
        let one = client.session().await.expect("a connection");
        let other = client.session().await.expect("a connection");
        let x = one.lock("x").await.expect("free");
        let _y = other.lock("y").await.expect("free");
        let waiting = tokio::spawn(one.lock("y").wait(WAIT).into_future());
        server.until_waiting(1);
        let Err(Error::Deadlock { circle }) = other.lock("x").wait(WAIT).await else {
            panic!("no deadlock");
        };
        let numbers: Vec<u64> = circle.steps.iter().map(|step| step.session).collect();
        assert_eq!(numbers, [other.number(), one.number()]);
        assert_eq!(circle.steps[0].key, "x");
        drop(_y);
        drop(waiting.await.expect("no panic").expect("its turn"));
        drop(x);
    });
}

#[test]
fn a_client_that_is_closed_leaves_no_session_behind() {
    let server = Server::start();
    run(async {
        let client = connect(&server).await;
        let guard = client.lock("k").await.expect("free");
        let waiting = tokio::spawn(client.lock("k").wait(WAIT).into_future());
        server.until_waiting(1);
        drop(guard);
        drop(waiting.await);
        client.close().await;
        server.until("one session", |lines| {
            let sessions = lines.iter().filter(|line| line.starts_with("SESSION "));
            sessions.count() == 1
        });
    });
}

/// A program that is told to stop while it waits ends at once, and takes its request with it.
#[test]
fn what_was_given_up_is_seen_to_before_a_client_is_closed() {
    let server = Server::start();
    let (one, waited) = (server.connect(), server.connect());
    let mut holder = one;
    holder.ask("lock k", "200 Acquired");
    run(async {
        let client = connect(&server).await;
        let asked = tokio::time::timeout(Duration::ZERO, client.lock("k").wait(WAIT).into_future());
        assert!(asked.await.is_err());
        let waiting = tokio::spawn(client.lock("k").wait(WAIT).into_future());
        server.until_waiting(1);
        holder.ask("unlock k", "200 Unlocked");
        waiting.abort();
        drop(waiting.await);
        client.close().await;
    });
    // The runtime is gone, so that nothing more is done for it.
    let mut waited = waited;
    waited.ask("lock k", "200 Acquired");
}

/// More than a server takes ahead of the answer to a request that waits.
#[test]
fn what_is_asked_behind_a_wait_is_not_sent_before_it_is_over() {
    const KEYS: usize = 1000;
    let server = Server::start();
    run(async {
        let (client, other) = (connect(&server).await, connect(&server).await);
        let held = other.lock("k").await.expect("free");
        let session = client.session().await.expect("a connection");
        let waiting = tokio::spawn(session.lock("k").wait(WAIT).into_future());
        server.until_waiting(1);
        let mut behind = tokio::task::JoinSet::new();
        for number in 0..KEYS {
            let key = format!("{number}-{}", "k".repeat(100));
            behind.spawn(session.lock(key).into_future());
        }
        // Each of them has asked by now: an answer that comes later says so.
        drop(client.info().await.expect("an answer"));
        held.release().await.expect("it was held");
        let guard = waiting.await.expect("no panic").expect("its turn");
        let behind = behind.join_all().await;
        assert!(behind.iter().all(Result::is_ok));
        assert!(guard.is_held());
    });
}

#[test]
fn a_refused_request_of_an_owner_changes_nothing_of_the_lock_that_the_owner_has() {
    let server = Server::start();
    run(async {
        let (one, other) = (connect(&server).await, connect(&server).await);
        let guard = one.lock("k").owner("job").lease(WAIT).await.expect("free");
        let refused = other.lock("k").owner("job").lease(WAIT / 20).await;
        assert!(matches!(refused, Err(Error::Unavailable)));
        let shown = other.locks(b"k", None).await.expect("an answer");
        let left_ms = shown.entries[0].holders[0].lease_left_ms.expect("a lease");
        assert!(u128::from(left_ms) > WAIT.as_millis() / 2, "{left_ms}");
        assert!(guard.is_held());
    });
}

#[test]
fn a_future_for_an_owner_that_is_dropped_leaves_the_queue_too() {
    let server = Server::start();
    run(async {
        let (one, other) = (connect(&server).await, connect(&server).await);
        let guard = one.lock("k").owner("first").await.expect("free");
        let waiting = tokio::spawn(other.lock("k").owner("second").wait(WAIT).into_future());
        server.until_waiting(1);
        waiting.abort();
        server.until_waiting(0);
        guard.release().await.expect("it was held");
        assert!(matches!(one.watch("k").await, Ok(State::Free)));
    });
}

#[test]
fn a_lock_of_a_session_is_not_left_behind() {
    let server = Server::start();
    run(async {
        let client = connect(&server).await;
        let guard = client.lock("k").await.expect("free").leave();
        drop(guard.expect_err("it comes back"));
        let other = connect(&server).await;
        drop(other.lock("k").wait(WAIT).await.expect("released"));
    });
}

#[test]
fn an_answer_that_nobody_waited_for_is_not_taken_for_the_next_ones() {
    let server = Server::start();
    run(async {
        let address = Address::Tcp(server.address.to_string());
        let mut connection = Connection::connect(&address).await.expect("connected");
        let holder = connect(&server).await;
        let _held = holder.lock("k").await.expect("free");
        let lock = Lock {
            key: b"k".to_vec(),
            mode: Mode::Exclusive,
            wait: WAIT,
            owner: None,
        };
        let given_up = tokio::time::timeout(Duration::from_millis(1), connection.call(&lock)).await;
        assert!(given_up.is_err(), "it waits");
        let next = connection.call(&Echo::default()).await;
        assert!(matches!(next, Err(Error::Connection(_))), "{next:?}");
    });
}

/// With and without a lease, by its next word for the lock: nothing else is heard of.
#[test]
fn a_guard_is_lost_when_an_operator_takes_its_lock_or_ends_its_session() {
    let server = Server::start();
    run(async {
        let options = Options::new(server.address.to_string().parse().expect("an address"));
        let one = options
            .grace(Duration::from_secs(1))
            .connect()
            .await
            .expect("connected");
        let other = connect(&server).await;
        let plain = one.lock("plain").await.expect("free");
        let leased = one.lock("leased").lease(Duration::from_secs(1)).await;
        let leased = leased.expect("free");
        for guard in [&plain, &leased] {
            let lost = guard.lost();
            other.force_unlock(guard.key()).await.expect("held");
            assert_eq!(lost.await, Loss::Revoked);
            assert!(!guard.is_held());
        }
        let again = other.force_unlock("plain").await;
        assert!(matches!(again, Err(Error::NotHeld(NotHeld::NotLocked))));

        let guard = one.lock("k").await.expect("free");
        other.force_unlock("k").await.expect("held");
        let released = guard.release().await;
        let why = Loss::Revoked;
        assert!(matches!(released, Err(Error::Lost { why: told }) if told == why));

        let guard = one.lock("k").await.expect("free");
        let lost = guard.lost();
        let page = other.locks(b"k", None).await.expect("an answer");
        let session = page.entries[0].holders[0].session.expect("a session");
        assert_eq!(other.kick(format!("#{session}")).await.ok(), Some(session));
        assert_eq!(lost.await, Loss::SessionEnded);
        let gone = other.kick(format!("#{session}")).await;
        assert!(matches!(gone, Err(Error::Refused { code: 403, .. })));
        drop(one.lock("k").await.expect("it goes on, as another session"));
    });
}
