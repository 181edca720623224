//! The examples do what they say.

#[path = "../examples/fencing.rs"]
mod fencing;
#[path = "../examples/leader.rs"]
mod leader;
#[path = "../examples/once.rs"]
mod once;
#[path = "../examples/readers_and_writers.rs"]
mod readers_and_writers;

include!("support/server.rs");

use elock_client::{Client, Error};

async fn clients<const N: usize>() -> [Client; N] {
    let servers = server().await;
    let mut clients = Vec::new();
    for _ in 0..N {
        clients.push(Client::connect(&servers).await.expect("it answers"));
    }
    clients.try_into().expect("so many")
}

#[tokio::test]
async fn a_job_is_done_by_one_of_ten() {
    let clients = clients::<10>().await;
    let (done, doing) = tokio::sync::oneshot::channel::<()>();
    let first = once::once(&clients[0], "job", async { drop(doing.await) });
    tokio::pin!(first);
    let others = async {
        let held =
            async { while !matches!(clients[1].lock("job").await, Err(Error::Unavailable)) {} };
        held.await;
        for client in &clients[1..] {
            let did_it = once::once(client, "job", async { panic!("twice") });
            assert!(!did_it.await.expect("an answer"));
        }
        drop(done);
    };
    let (did_it, ()) = tokio::join!(first, others);
    assert!(did_it.expect("held all the time"));
}

#[tokio::test]
async fn a_late_writer_is_refused_by_the_database() {
    let [one, other] = clients().await;
    let db = rusqlite::Connection::open_in_memory().expect("a database");
    db.execute(fencing::TABLE, []).expect("a table");
    let late = one.lock("report").await.expect("free");
    let late_token = late.token();
    late.release().await.expect("held");
    let next = other.lock("report").await.expect("free");
    let write = |body, token| fencing::write(&db, 7, body, token).expect("it works");
    assert!(write("first", late_token));
    assert!(write("second", next.token()) && write("third", next.token()));
    assert!(!write("late", late_token));
}

#[tokio::test]
async fn readers_share_and_a_writer_is_alone() {
    let [one, other] = clients().await;
    let readers = [
        readers_and_writers::read(&one, "doc").await,
        readers_and_writers::read(&other, "doc").await,
    ];
    assert!(readers.iter().all(Result::is_ok));
    assert!(matches!(one.lock("doc").await, Err(Error::Unavailable)));
    drop(readers);
    let writer = readers_and_writers::write(&one, "doc")
        .await
        .expect("alone");
    let refused = other.lock("doc").shared("r").await;
    assert!(matches!(refused, Err(Error::Unavailable)));
    writer.release().await.expect("held");
}

#[tokio::test]
async fn one_leads_and_then_the_next() {
    let [one, other] = clients().await;
    let (first, second) = tokio::join!(
        leader::lead(&one, async { 1 }),
        leader::lead(&other, async { 2 })
    );
    assert_eq!((first.expect("led"), second.expect("led")), (1, 2));
}
