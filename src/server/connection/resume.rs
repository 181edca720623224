//! `conn_id ID` and `resume`: a connection speaks for another session than the one that it began with.

use std::sync::Arc;

use super::{Connection, Gone};
use crate::model::SessionId;
use crate::protocol::{Reply, StateReply};
use crate::server::log_lines;
use crate::server::session_guard::tidy;
use crate::server::transport::Transport;
use crate::table::{Order, Resumed, TakenOver};

impl<S: Transport> Connection<S> {
    /// Resumes a session in its grace period.
    pub(super) async fn set_conn_id(&mut self, id: SessionId) {
        // The connection's own session ends, and may still list many locks that it has lost.
        tidy(&self.shared, &mut self.session).await;
        let (table, own) = (&self.shared.table, self.session.number());
        let from = log_lines::peer(&self.shared, id.number);
        let resumed = match table.resume(&mut self.session, id, self.shared.clock.now()) {
            Resumed::Yes(resumed) => resumed,
            Resumed::No(why) => return self.reply(&Reply::CannotSetConnId(why)),
        };
        if id.number != own {
            table.counters().resumes.add(1);
            log_lines::resumed(&self.shared, &self.session, &from, "resumed");
        }
        self.tell(Ok(resumed.map(|()| StateReply::ConnIdSet)));
    }

    /// Takes a session over. Its old connection lets it go within the time that its task needs to
    /// notice, so this does not read ahead meanwhile.
    pub(super) async fn resume(&mut self, id: SessionId) -> Result<(), Gone> {
        // Answers to requests before this one rest on what the connection's own session has.
        self.flush().await?;
        tidy(&self.shared, &mut self.session).await;
        let shared = Arc::clone(&self.shared);
        let own = self.session.number();
        let from = log_lines::peer(&shared, id.number);
        let signal = self.session.signal().clone();
        let now = || shared.clock.now();
        let taken = tokio::select! {
            biased;
            taken = shared.table.take_over(&mut self.session, id, now) => taken,
            order = signal.any() => match order {
                Order::Stop => {
                    self.reply(&Reply::ShuttingDown);
                    return Ok(());
                }
                order => return Err(order.into()),
            },
        };
        let counters = shared.table.counters();
        let resumed = match taken {
            TakenOver::No(why) => {
                self.reply(&Reply::CannotResume(why));
                return Ok(());
            }
            TakenOver::FromConnection(resumed) => {
                counters.takeovers.add(1);
                log_lines::resumed(&shared, &self.session, &from, "taken over");
                resumed
            }
            TakenOver::AfterDisconnect(resumed) => {
                if id.number != own {
                    counters.resumes.add(1);
                    log_lines::resumed(&shared, &self.session, &from, "resumed");
                }
                resumed
            }
        };
        self.tell(Ok(resumed.map(|()| StateReply::Resumed)));
        Ok(())
    }
}
