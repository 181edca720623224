//! The parts of a command, each alone: `cargo bench --bench micro`.

mod load;

use std::time::Instant;

use bytes::BytesMut;
use divan::Bencher;
use elock::protocol::{Line, LineCodec, Reply, Request};
use elock::table::{Ending, Mode};
use load::{open, table};
use tokio_util::codec::{Decoder, Encoder};

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
        .with_inputs(|| (LineCodec::new(4096), BytesMut::from(&lines[..])))
        .bench_values(|(mut codec, mut input)| {
            let mut count = 0;
            if let Ok(Some(mut lines)) = codec.decode(&mut input) {
                while let Some(Line::Text(_)) = lines.next_line() {
                    count += 1;
                }
            }
            count
        });
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let (mut codec, mut output) = (LineCodec::new(4096), BytesMut::with_capacity(64));
    bencher.bench_local(|| {
        output.clear();
        codec.encode(&Reply::Acquired, &mut output)
    });
}

#[divan::bench(threads = [1, 2])]
fn lock_and_unlock(bencher: Bencher<'_, '_>) {
    let (table, now) = (table(), Instant::now());
    bencher.with_inputs(|| open(&table)).bench_refs(|session| {
        let key = session.number().0.to_ne_bytes();
        let answer = table.lock(session, &key, &Mode::Exclusive, now);
        (answer, table.unlock(session, &key, now))
    });
}

#[divan::bench]
fn refused(bencher: Bencher<'_, '_>) {
    let (table, now) = (table(), Instant::now());
    let (mut holder, mut other) = (open(&table), open(&table));
    table.lock(&mut holder, KEY, &Mode::Exclusive, now);
    bencher.bench_local(|| table.lock(&mut other, KEY, &Mode::Exclusive, now));
}

/// A wait, its grant by the holder's release, and what the waiter does then.
#[divan::bench]
fn wait_and_hand_over(bencher: Bencher<'_, '_>) {
    let (table, now) = (table(), Instant::now());
    let (mut holder, mut waiter) = (open(&table), open(&table));
    table.lock(&mut holder, KEY, &Mode::Exclusive, now);
    bencher.bench_local(|| {
        table.lock_or_wait(&mut waiter, KEY, &Mode::Exclusive, now);
        table.unlock(&mut holder, KEY, now);
        table.settle(&mut waiter, Ending::Granted, now);
        std::mem::swap(&mut holder, &mut waiter);
    });
}
