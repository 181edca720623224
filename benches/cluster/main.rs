//! elockd on etcd: grants beside etcd's own lock, take-overs, many locks, and the size of etcd's database, all on
//! one machine and on loopback: three etcd on its disk, three elockd, and their clients. Prints tables.
//!
//! `cargo bench --bench cluster`; with `-- 1` one round instead of five, with `-- 3 grants takeover` three rounds
//! of these parts. `churn 600` lasts so many seconds instead of 60. It needs `etcd` and `etcdctl`, and nothing is
//! left running.

mod churn;
mod etcd_lock;
mod grants;
mod held;
#[path = "../load/mod.rs"]
mod load;
mod servers;
mod takeover;

use std::time::Duration;

use load::median;

fn main() {
    let wanted = Wanted::from(std::env::args().skip(1));
    let Some(version) = servers::etcd_version() else {
        return println!("skipped, as etcd is not installed");
    };
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let rounds = wanted.rounds;
    println!("{cores} cores, all on the same ones; etcd {version}; medians of {rounds} rounds\n");
    for part in &wanted.parts {
        match part {
            Part::Grants => grants::measure(rounds),
            Part::Takeover => takeover::measure(rounds),
            Part::Load => held::measure(rounds),
            Part::Churn => churn::measure(wanted.churn),
        }
        println!();
    }
}

#[derive(Clone, Copy)]
enum Part {
    Grants,
    Takeover,
    Load,
    Churn,
}

impl Part {
    const ALL: [Self; 4] = [Self::Grants, Self::Takeover, Self::Load, Self::Churn];
}

/// What the command line asks for.
struct Wanted {
    parts: Vec<Part>,
    rounds: usize,
    churn: Duration,
}

impl Wanted {
    fn from(arguments: impl Iterator<Item = String>) -> Self {
        let mut wanted = Self {
            parts: Vec::new(),
            rounds: 5,
            churn: Duration::from_secs(60),
        };
        for argument in arguments {
            let part = match (argument.as_str(), argument.parse::<u32>()) {
                // From cargo.
                ("--bench", _) => continue,
                (_, Ok(seconds)) if matches!(wanted.parts.last(), Some(Part::Churn)) => {
                    wanted.churn = Duration::from_secs(seconds.into());
                    continue;
                }
                (_, Ok(rounds)) => {
                    wanted.rounds = rounds.max(1) as usize;
                    continue;
                }
                ("grants", _) => Part::Grants,
                ("takeover", _) => Part::Takeover,
                ("load", _) => Part::Load,
                ("churn", _) => Part::Churn,
                _ => panic!("{argument} is none of grants, takeover, load and churn"),
            };
            wanted.parts.push(part);
        }
        if wanted.parts.is_empty() {
            wanted.parts = Part::ALL.to_vec();
        }
        wanted
    }
}

/// The one in the middle, with the least and the most.
fn spread(times: &[Duration]) -> String {
    let all = times.iter().map(Duration::as_secs_f64);
    let (least, most) = all.clone().fold((f64::MAX, 0.0_f64), |(least, most), one| {
        (least.min(one), most.max(one))
    });
    let middle = median(all.collect());
    format!("{middle:.2} s ({least:.2}–{most:.2})")
}

fn megabytes(bytes: u64) -> u64 {
    bytes / 1_000_000
}
