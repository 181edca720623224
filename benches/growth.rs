//! What must not grow with the rest: `cargo bench --bench growth`.
//!
//! The first two on a real server, the others on the lock table alone, since no machine has a
//! hundred thousand sockets to spare.

mod load;

use std::time::{Duration, Instant};

use elock::model::Mode;
use elock::table::{Ending, LockTable, Locked, Session};
use load::{Client, Load, Server, hold, open, pairs, table};

/// From which number on keys are held by others than those of [`pairs`].
const OTHERS: usize = 1_000_000;

const NO_LIMIT: &[&str] = &["--max-session-locks", "2000000"];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == load::ECHO) {
        return load::serve_echo(&arguments[at + 1]);
    }
    with_many_held();
    end_of_a_large_session();
    println!("| the lock table alone | of a hundred | of a hundred thousand |");
    println!("| --- | --- | --- |");
    print("a hand-over among waiters", 100, 100_000, hand_overs);
    print(
        "a wait that ends, all at one moment",
        100,
        100_000,
        deadlines,
    );
    println!();
    for length in [100, 10_000] {
        let (asked, told) = chain(length);
        println!(
            "a circle of {length} waiting sessions: asked within {asked:?}, told after {told:?}"
        );
    }
}

fn print(what: &str, few: usize, many: usize, cost: fn(usize) -> Duration) {
    // The smaller one often, so that it takes as long.
    let times = u32::try_from(many / few).expect("a few");
    let small: Duration = (0..times).map(|_| cost(few)).sum::<Duration>() / times;
    println!("| {what} | {small:?} | {:?} |", cost(many));
}

fn with_many_held() {
    let server = Server::elockd(NO_LIMIT);
    let load = Load {
        connections: 50,
        in_flight: 1,
        time: Duration::from_secs(2),
        pace: None,
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for held in [10, 1_000_000] {
        let holder = runtime.block_on(hold(server.address, 0, OTHERS..OTHERS + held));
        let shown = pairs(&server, load);
        let (rate, cpu) = (shown.per_second, shown.cpu_micros);
        println!(
            "with {held} locks held by others: {rate:.0} commands/s, {cpu:.2} us of processor each"
        );
        drop(holder);
    }
}

fn end_of_a_large_session() {
    let server = Server::elockd(NO_LIMIT);
    let mb = || server.memory() >> 20;
    let before = mb();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (took, held, mut others) = runtime.block_on(async {
        let holder = hold(server.address, 0, 0..1_000_000).await;
        let held = mb();
        let mut watcher = Client::connect(server.address).await;
        let begin = Instant::now();
        drop(holder);
        let mut others = Vec::new();
        loop {
            let sent = Instant::now();
            watcher.send(b"lock mine\nunlock mine\n").await;
            watcher.read_lines(2).await;
            others.push(sent.elapsed());
            // Its last keys are freed last or nearly so; one of them is as good as another.
            if others.len() % 50 == 0 && stats_locks(&mut watcher).await == 0 {
                break (begin.elapsed(), held, others);
            }
        }
    });
    others.sort_unstable();
    let part = |part: f64| others[((others.len() - 1) as f64 * part) as usize];
    println!(
        "the end of a session with a million locks: {took:?}; others meanwhile: p50 {:?}, p99 {:?}, max {:?}",
        part(0.5),
        part(0.99),
        part(1.0)
    );
    let freed = mb();
    std::thread::sleep(Duration::from_secs(10));
    let later = mb();
    println!(
        "memory: {before} MB, with the locks {held}, freed {freed}, ten seconds later {later}\n"
    );
}

async fn stats_locks(client: &mut Client) -> usize {
    client.send(b"stats\n").await;
    let lines = client.read_text(5).await;
    let line = lines.lines().find(|line| line.starts_with("STAT locks "));
    let count = line.and_then(|line| line.rsplit(' ').next());
    count
        .and_then(|count| count.trim().parse().ok())
        .expect("a count")
}

fn lock(table: &LockTable, session: &mut Session, key: &[u8], expected: Locked) {
    let answer = table.acquire(
        session,
        key,
        &Mode::Exclusive.into(),
        Duration::from_secs(3600),
        Instant::now(),
    );
    let answer = answer.expect("no store").value;
    assert_eq!(answer, expected);
}

/// A holder and so many who wait for its key.
fn queue(table: &LockTable, waiters: usize) -> (Session, Vec<Session>) {
    let mut holder = open(table);
    lock(table, &mut holder, b"k", Locked::Acquired);
    let waiting = (0..waiters).map(|_| {
        let mut session = open(table);
        lock(table, &mut session, b"k", Locked::Waiting);
        session
    });
    let waiting = waiting.collect();
    (holder, waiting)
}

fn hand_overs(waiters: usize) -> Duration {
    let table = table();
    let (mut holder, waiting) = queue(&table, waiters);
    let begin = Instant::now();
    for mut next in waiting {
        let unlocked = table.unlock(&mut holder, b"k", None, begin);
        assert!(unlocked.is_ok());
        let wait = table.wait(&mut next).expect("it waits");
        assert_eq!(wait.end(Ending::Decided, begin).value, Locked::Acquired);
        holder = next;
    }
    begin.elapsed() / u32::try_from(waiters).expect("not that many")
}

fn deadlines(waiters: usize) -> Duration {
    let table = table();
    let (_holder, mut waiting) = queue(&table, waiters);
    let begin = Instant::now();
    for session in &mut waiting {
        let wait = table.wait(session).expect("it waits");
        assert_eq!(wait.end(Ending::Deadline, begin).value, Locked::Busy);
    }
    begin.elapsed() / u32::try_from(waiters).expect("not that many")
}

/// Each session holds a key and waits for that of the next; the last asks for the first one's. Returns how
/// long it was kept by its request, and when it knew of the circle.
fn chain(length: usize) -> (Duration, Duration) {
    let table = table();
    let key = |number: usize| number.to_ne_bytes();
    let mut sessions: Vec<Session> = (0..length).map(|_| open(&table)).collect();
    for (number, session) in sessions.iter_mut().enumerate() {
        lock(&table, session, &key(number), Locked::Acquired);
    }
    // From the end, so that each wait has a short walk.
    for (number, session) in sessions.iter_mut().enumerate().rev().skip(1) {
        lock(&table, session, &key(number + 1), Locked::Waiting);
    }
    let last = sessions.last_mut().expect("some");
    let begin = Instant::now();
    let answer = table.acquire(
        last,
        &key(0),
        &Mode::Exclusive.into(),
        Duration::from_secs(3600),
        begin,
    );
    let mut answer = answer.expect("no store").value;
    let asked = begin.elapsed();
    if answer == Locked::Waiting {
        table.take_second_look(Instant::now, || {});
        let wait = table.wait(last).expect("it waits");
        answer = wait.end(Ending::Decided, Instant::now()).value;
    }
    assert!(matches!(answer, Locked::Deadlock(_)));
    (asked, begin.elapsed())
}
