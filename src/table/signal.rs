//! How the task of a connection is told to stop or to close: it has one signal, to which it listens
//! wherever it waits; and what the task says of itself there, for others to see.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use tokio::sync::Notify;

/// What a connection is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Order {
    /// The server stops: answer the lines that were read, grant nothing, close.
    Stop = 1,
    /// Another connection speaks for the session from now on: write nothing more, close.
    TakenOver = 2,
    /// An operator ends the session: write nothing more, close.
    Kill = 3,
}

/// A signal as a connection shares it with those who give it orders. There are as many as connections;
/// with the feature `tuned` they go without a second count, which nobody uses.
#[cfg(feature = "tuned")]
pub type SharedSignal = triomphe::Arc<Signal>;
/// A signal as a connection shares it with those who give it orders.
#[cfg(not(feature = "tuned"))]
pub type SharedSignal = std::sync::Arc<Signal>;

/// The signal of one connection. Given from any thread, listened to by the connection's task alone.
///
/// An order stands until a harder one comes: a take-over and a kill outdo a stop, and a kill outdoes
/// all.
#[derive(Debug, Default)]
pub struct Signal {
    /// 0, or an [`Order`].
    order: AtomicU8,
    /// Whether an operator has ever taken a lock from a session of this connection.
    has_revocations: AtomicBool,
    given: Notify,
    /// What the connection last said of itself: the locks of its session, and when that was, as a stamp
    /// of the server's clock.
    held: AtomicU32,
    active: AtomicU32,
}

impl Signal {
    /// Gives the order, unless a harder one was given before.
    pub fn give(&self, order: Order) {
        self.set(order);
        self.wake();
    }

    /// As [`Signal::give`], but the connection is not woken yet.
    pub(super) fn set(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
    }

    /// Wakes the connection after [`Signal::set`]. Not under a guard.
    pub(super) fn wake(&self) {
        self.given.notify_one();
    }

    /// Says that an operator takes a lock from the connection's session. Before the lock is taken, and
    /// under the guard of the session's entry in the registry, so that the connection speaks for it.
    pub(super) fn note_revocation(&self) {
        self.has_revocations.store(true, Ordering::Release);
    }

    /// Whether an operator has taken a lock from a session for which this connection spoke.
    pub fn has_revocations(&self) -> bool {
        self.has_revocations.load(Ordering::Acquire)
    }

    /// The hardest order so far.
    pub fn order(&self) -> Option<Order> {
        match self.order.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Order::Stop),
            2 => Some(Order::TakenOver),
            _ => Some(Order::Kill),
        }
    }

    /// Returns once there is an order. Cancel safe, for one caller at a time.
    pub async fn any(&self) -> Order {
        self.at_least(Order::Stop).await
    }

    /// The order after which nothing more may be written, if there is one.
    pub fn is_cut_off(&self) -> Option<Order> {
        self.order().filter(|order| *order >= Order::TakenOver)
    }

    /// Returns once there is an order after which nothing more may be written. Cancel safe, for one
    /// caller at a time.
    pub async fn cut_off(&self) -> Order {
        self.at_least(Order::TakenOver).await
    }

    /// Says, for others to see, how many locks the connection's session holds at this time.
    pub(super) fn note(&self, held: usize, active: u32) {
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        self.held.store(held, Ordering::Relaxed);
        self.active.store(active, Ordering::Relaxed);
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed) as usize
    }

    pub(super) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    async fn at_least(&self, least: Order) -> Order {
        loop {
            match self.order() {
                Some(order) if order >= least => return order,
                // An order that comes between the look and the wait leaves a permit.
                _ => self.given.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_that_came_before_is_heard_and_a_softer_one_changes_nothing() {
        let signal = Signal::default();
        assert_eq!(signal.order(), None);
        signal.give(Order::TakenOver);
        signal.give(Order::Stop);
        assert_eq!(signal.any().await, Order::TakenOver);
        assert_eq!(signal.cut_off().await, Order::TakenOver);
        signal.give(Order::Kill);
        assert_eq!(signal.cut_off().await, Order::Kill);
    }

    #[tokio::test]
    async fn a_stop_does_not_cut_off() {
        let signal = Signal::default();
        signal.give(Order::Stop);
        tokio::select! {
            biased;
            order = signal.cut_off() => panic!("cut off by {order:?}"),
            () = std::future::ready(()) => {}
        }
        // The permit that the look above took is not missed.
        assert_eq!(signal.any().await, Order::Stop);
    }
}
