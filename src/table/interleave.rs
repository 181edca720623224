//! The places where one thread can overtake another in the table: between two guards. Nothing but a
//! plain mutex lock in a real build; the unit tests' model checks make their scheduler choose at
//! these places.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the mutex. Poisoning is ignored: no operation panics with the graph half changed.
#[cfg(not(test))]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Called where no guard is held.
#[cfg(not(test))]
pub(super) fn between_guards() {}

/// Called under a key's guard, between two steps that other threads see without it.
#[cfg(not(test))]
pub(super) fn under_guard() {}

#[cfg(test)]
thread_local! {
    static YIELD: std::cell::Cell<Option<fn()>> = const { std::cell::Cell::new(None) };
    static YIELD_UNDER_GUARD: std::cell::Cell<Option<fn()>> = const { std::cell::Cell::new(None) };
}

/// As [`yield_with`], also under a guard: for tests whose other threads take none.
#[cfg(test)]
pub(crate) fn yield_under_guard_with(yields: fn()) {
    yield_with(yields);
    YIELD_UNDER_GUARD.set(Some(yields));
}

#[cfg(test)]
pub(super) fn under_guard() {
    if let Some(yields) = YIELD_UNDER_GUARD.get() {
        yields();
    }
}

/// From now on, tests on this thread call `yields` wherever another thread could run.
#[cfg(test)]
pub(crate) fn yield_with(yields: fn()) {
    YIELD.set(Some(yields));
}

#[cfg(test)]
pub(super) fn between_guards() {
    if let Some(yields) = YIELD.get() {
        yields();
    }
}

#[cfg(test)]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    if YIELD.get().is_none() {
        return mutex.lock().unwrap_or_else(PoisonError::into_inner);
    }
    // The scheduler runs all its threads on this one, so blocking would stop them all.
    loop {
        between_guards();
        if let Ok(guard) = mutex.try_lock() {
            return guard;
        }
    }
}
