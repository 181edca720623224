//! The process as Linux shows it below `/proc`; elsewhere there is nothing to read, and these metrics are
//! absent. Their names are those of other servers.

use std::fmt;
use std::fs::{metadata, read_dir, read_to_string};

use super::families::Families;

/// In how many parts of a second Linux gives times below `/proc`, on all of its common architectures.
const TICKS_A_SECOND: f64 = 100.0;

const KIB: f64 = 1024.0;

pub(super) fn process(families: &mut Families<'_>) -> fmt::Result {
    let (status, limits) = (read("/proc/self/status"), read("/proc/self/limits"));
    let gauges = [
        (
            "process_resident_memory_bytes",
            "Resident memory.",
            number(&status, "VmRSS:").map(|kib| kib * KIB),
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory.",
            number(&status, "VmSize:").map(|kib| kib * KIB),
        ),
        ("process_threads", "Threads.", number(&status, "Threads:")),
        ("process_open_fds", "Open file descriptors.", open_fds()),
        (
            "process_max_fds",
            "The limit of open file descriptors.",
            number(&limits, "Max open files"),
        ),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            families.gauge(name, help, value)?;
        }
    }
    match cpu_seconds(&read("/proc/self/stat")) {
        Some(seconds) => families.counter(
            "process_cpu_seconds",
            "Processor time, of the program and of the kernel for it.",
            seconds,
        ),
        None => Ok(()),
    }
}

/// What is not there says nothing.
fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_default()
}

/// The number behind `name` in a file of lines.
fn number(lines: &str, name: &str) -> Option<f64> {
    let value = lines.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

fn open_fds() -> Option<f64> {
    const FDS: &str = "/proc/self/fd";
    // Newer kernels tell the number by itself; there may be many thousands.
    match metadata(FDS).ok()?.len() {
        0 => Some(read_dir(FDS).ok()?.count() as f64),
        open => Some(open as f64),
    }
}

/// Field `index` of `/proc/self/stat`, counted as its manual does: from 1, the third being the first
/// behind the program's name, which may have spaces itself.
fn field(stat: &str, index: usize) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name
        .split_whitespace()
        .nth(index.checked_sub(3)?)?
        .parse()
        .ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    const USER: usize = 14;
    const KERNEL: usize = 15;
    Some((field(stat, USER)? + field(stat, KERNEL)?) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 1 0 4242 1 2";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(field(stat, 22), Some(4242.0));
        assert_eq!(field(stat, 99), None);
        assert_eq!(cpu_seconds(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_all_of_it() {
        let mut text = String::new();
        let mut registry = prometheus_client::registry::Registry::default();
        #[derive(Debug)]
        struct Process;
        impl prometheus_client::collector::Collector for Process {
            fn encode(
                &self,
                encoder: prometheus_client::encoding::DescriptorEncoder<'_>,
            ) -> fmt::Result {
                process(&mut Families::new(encoder))
            }
        }
        registry.register_collector(Box::new(Process));
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).expect("text");
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples.len(), 6, "{text}");
    }
}
