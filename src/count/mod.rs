//! What can be counted while a server runs, by any number of threads at once and without a lock.

mod counter;
mod histogram;

pub use counter::Counter;
pub use histogram::{Batch, Durations, Histogram};
