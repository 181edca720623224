//! A storage for tests: in memory, and it fails or waits on demand.
#![cfg_attr(fuzzing, allow(dead_code))]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Batch, Storage};
use crate::model::NotStored;
#[cfg(feature = "store")]
use crate::model::{Restored, RestoredSession, SessionNumber, Token, digest};

#[derive(Debug, Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Everything that was stored; grants and sessions that are over stay as `None`.
    pub(crate) stored: Batch,
    pub(crate) commits: usize,
    /// The last of them is the next commit's failure.
    pub(crate) failures: Vec<NotStored>,
    /// Whether all commits fail.
    pub(crate) is_broken: bool,
    /// Whether there is room for no more than ends.
    pub(crate) is_full: bool,
    /// Whether a look for room finds some.
    pub(crate) can_make_room: bool,
    pub(crate) panics: bool,
    /// Whether others may come to store in its place.
    pub(crate) must_confirm: bool,
    pub(crate) confirmations: usize,
    gate: Option<(Sender<()>, Receiver<()>)>,
}

impl Fake {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics in here")
    }

    /// The state that a server started now would find.
    #[cfg(feature = "store")]
    pub(crate) fn restored(&self) -> Restored {
        let stored = &self.state().stored;
        let grants = stored.grants.iter();
        let sessions = stored.sessions.iter();
        Restored {
            tokens_above: Token(0),
            session_numbers_above: SessionNumber(0),
            grants: grants
                .filter_map(|(token, grant)| Some((*token, grant.clone()?)))
                .collect(),
            sessions: sessions
                .filter_map(|(number, session)| {
                    let session = session.as_ref()?;
                    Some(RestoredSession {
                        number: *number,
                        grace: session.grace,
                        secret: session.secret.map(digest),
                        user: session.user.clone(),
                    })
                })
                .collect(),
        }
    }

    /// From here on each commit, and each look for room, sends a message when it begins, and waits for
    /// one to go on.
    pub(crate) fn gate(&self) -> (Sender<()>, Receiver<()>) {
        let (begun, has_begun) = channel();
        let (go, may_go) = channel();
        self.state().gate = Some((begun, may_go));
        (go, has_begun)
    }

    fn wait_at_gate(&self) {
        let Some((begun, may_go)) = self.state().gate.take() else {
            return;
        };
        // The test may be over.
        let _ = begun.send(());
        let _ = may_go.recv();
        self.state().gate = Some((begun, may_go));
    }
}

impl Storage for Fake {
    fn commit(&mut self, batch: &Batch) -> Result<(), NotStored> {
        self.wait_at_gate();
        let mut state = self.state();
        state.commits += 1;
        if state.panics {
            drop(state);
            panic!("a fault of the storage");
        }
        if state.is_broken {
            return Err(NotStored::new("no space"));
        }
        if let Some(failure) = state.failures.pop() {
            return Err(failure);
        }
        state.stored.grants.extend(batch.grants.clone());
        state.stored.sessions.extend(batch.sessions.clone());
        Ok(())
    }

    fn confirm(&mut self) -> Result<(), NotStored> {
        if self.must_confirm() {
            self.wait_at_gate();
            let mut state = self.state();
            state.confirmations += 1;
            if state.is_broken {
                return Err(NotStored::new("no space"));
            }
        }
        Ok(())
    }

    fn must_confirm(&self) -> bool {
        self.state().must_confirm
    }

    fn has_room(&self) -> bool {
        !self.state().is_full
    }

    fn make_room(&mut self) -> bool {
        self.wait_at_gate();
        let mut state = self.state();
        state.is_full &= !state.can_make_room;
        !state.is_full
    }
}
