//! The parts of a command, each alone: `cargo bench --bench micro`.

mod load;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use divan::Bencher;
use elock::model::Mode;
use elock::protocol::{Framing, Line, Request, StateReply};
use elock::table::Ending;
use load::{open, table};

const HOUR: Duration = Duration::from_secs(3600);
const KEY: &[u8] = b"some/application/resource/00000000000007";
const LINE: &[u8] = b"lock some/application/resource/00000000000007 5\n";

fn main() {
    divan::main();
}

#[divan::bench]
fn parse(bencher: Bencher<'_, '_>) {
    bencher.bench(|| Request::parse(divan::black_box(&LINE[..LINE.len() - 1])));
}

/// A hundred lines out of one buffer.
#[divan::bench]
fn decode_100(bencher: Bencher<'_, '_>) {
    let lines = LINE.repeat(100);
    bencher
        .with_inputs(|| (Framing::new(4096), BytesMut::from(&lines[..])))
        .bench_values(|(mut framing, mut input)| {
            let mut count = 0;
            if let Some(mut lines) = framing.take_lines(&mut input) {
                while let Some(Line::Text(_)) = lines.next_line() {
                    count += 1;
                }
            }
            count
        });
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let mut output = BytesMut::with_capacity(64);
    bencher.bench_local(|| {
        output.clear();
        StateReply::Acquired.put(&mut output);
    });
}

#[divan::bench(threads = [1, 2])]
fn lock_and_unlock(bencher: Bencher<'_, '_>) {
    let (table, now) = (table(), Instant::now());
    bencher.with_inputs(|| open(&table)).bench_refs(|session| {
        let key = session.number().0.to_ne_bytes();
        let answer = table.try_acquire(session, &key, &Mode::Exclusive.into(), now);
        (answer, table.unlock(session, &key, None, now))
    });
}

#[divan::bench]
fn refused(bencher: Bencher<'_, '_>) {
    let (table, now) = (table(), Instant::now());
    let (mut holder, mut other) = (open(&table), open(&table));
    let taken = table.try_acquire(&mut holder, KEY, &Mode::Exclusive.into(), now);
    drop(taken);
    bencher.bench_local(|| table.try_acquire(&mut other, KEY, &Mode::Exclusive.into(), now));
}

/// A wait, its grant by the holder's release, and what the waiter does then.
#[divan::bench]
fn wait_and_hand_over(bencher: Bencher<'_, '_>) {
    let (table, now) = (table(), Instant::now());
    let (mut holder, mut waiter) = (open(&table), open(&table));
    let taken = table.try_acquire(&mut holder, KEY, &Mode::Exclusive.into(), now);
    drop(taken);
    bencher.bench_local(|| {
        let queued = table.acquire(&mut waiter, KEY, &Mode::Exclusive.into(), HOUR, now);
        let unlocked = table.unlock(&mut holder, KEY, None, now);
        let granted = table
            .wait(&mut waiter)
            .map(|wait| wait.end(Ending::Decided, now));
        drop((queued, unlocked, granted));
        std::mem::swap(&mut holder, &mut waiter);
    });
}
