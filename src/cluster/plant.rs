//! Faults that are planted in a server, so that its tests show that they would find them.
//!
//! Without the feature `plant` there are none: it is not for servers that anybody relies on.

#[cfg(all(feature = "plant", not(debug_assertions)))]
compile_error!("the feature `plant` makes a server unsafe, and is for tests alone");

/// A way in which the locks of a cluster would not be safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    /// Who leads goes on whatever etcd says of that, and writes without the condition that it leads.
    SplitBrain,
    /// Answers leave whether the lease runs or not, and nobody asks etcd whether they are true.
    Memory,
    /// A change whose outcome is open is taken as not done, and the next one written in its place.
    TakenAsFailed,
}

/// Whether this fault is planted here, by the variable `ELOCK_PLANT`.
#[cfg(feature = "plant")]
pub(crate) fn is(plant: Plant) -> bool {
    static PLANTED: std::sync::OnceLock<Option<Plant>> = std::sync::OnceLock::new();
    let planted = PLANTED.get_or_init(|| match std::env::var("ELOCK_PLANT").as_deref() {
        Ok("split-brain") => Some(Plant::SplitBrain),
        Ok("memory") => Some(Plant::Memory),
        Ok("taken-as-failed") => Some(Plant::TakenAsFailed),
        _ => None,
    });
    *planted == Some(plant)
}

/// None is.
#[cfg(not(feature = "plant"))]
pub(crate) const fn is(_: Plant) -> bool {
    false
}
