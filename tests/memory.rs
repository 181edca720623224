//! Memory that was held is given back to the system, and not only to the process: an operator looks at what
//! is resident.
#![cfg(all(feature = "give-back", target_os = "linux"))]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::Client;
use common::process::Process;

/// Keys of nearly a whole line, 50 MB of them.
const LOCKS: usize = 12_500;
const KEY_LEN: usize = 4_000;

/// Generous: it takes two or three seconds.
const AT_LAST: Duration = Duration::from_secs(60);

const MB: u64 = 1 << 20;

fn resident(process: &Process) -> u64 {
    let path = format!("/proc/{}/statm", process.child.id());
    let statm = std::fs::read_to_string(path).expect("it runs");
    let pages = statm.split(' ').nth(1).expect("a field");
    pages.parse::<u64>().expect("a number") * 4096
}

/// Takes the locks, and lets another client's small ones come in between: memory that stays in use beside
/// what is freed must not keep that.
fn take_all(taker: &mut Client, other: &mut Client) {
    for number in 0..LOCKS {
        taker.send(format!("lock {number:0KEY_LEN$}"));
        if number % 100 == 99 {
            (0..100).for_each(|_| taker.expect("200 Acquired"));
            other.ask(format!("lock small/{number}"), "200 Acquired");
        }
    }
}

#[test]
fn what_a_burst_took_is_given_back_although_nothing_is_asked_any_more() {
    let process = Process::start(&[]);
    let [mut taker, mut other] = [process.connect(), process.connect()];
    taker.ask("set_timeout 0", "200 timeout set");
    let before = resident(&process);
    take_all(&mut taker, &mut other);
    let peak = resident(&process);
    assert!(peak > before + 40 * MB, "{peak} after {before}");
    drop(taker);
    let begin = Instant::now();
    while resident(&process) > before + 10 * MB {
        let now = resident(&process);
        assert!(begin.elapsed() < AT_LAST, "{now}; {peak} after {before}");
        thread::sleep(Duration::from_millis(50));
    }
    other.ask("unlock small/99", "200 Unlocked");
}
