//! The task that serves one session: it connects, lets the wire carry what is asked, and connects again
//! when that breaks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::handshake::{Joined, join};
use super::wire::Wire;
use super::{Asked, Broken, Outcome, Outgoing, Reply, Server, State, Vital};
use crate::address::Address;
use crate::clock::Moment;
use crate::command::SessionId;
use crate::error::ConnectionError;

/// Whatever the options say, attempts do not follow each other without any.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Serves the session until nobody can ask anything of it any more.
pub(super) async fn run(vital: Arc<Vital>, inbox: mpsc::UnboundedReceiver<Outgoing>) {
    let mut link = Link {
        vital,
        inbox,
        is_closed: false,
        id: None,
        server: None,
        undone: VecDeque::new(),
        failures: 0,
        pause: Duration::ZERO,
        is_avoided: false,
    };
    while let Some(joined) = link.connect().await {
        link.server = Some(joined.server.clone());
        link.vital.joins.fetch_add(1, Ordering::SeqCst);
        link.vital.state.send_replace(State::Up(joined.server));
        link.vital.bell.notify_one();
        let undone = std::mem::take(&mut link.undone);
        let begun = Moment::now();
        let mut wire = Wire::new(joined.connection, Arc::clone(&link.vital), undone);
        let ended = wire.serve(&mut link.inbox).await;
        link.vital.set_waiting_since(None, false);
        match ended {
            None => {
                wire.say_goodbye().await;
                break;
            }
            Some(error) => link.broke(wire, error),
        }
        // A server that ends each connection before it answers is not asked without pause.
        if link.vital.confirmed() >= begun {
            link.pause = Duration::ZERO;
        }
    }
    link.vital.state.send_replace(State::Ended);
}

struct Link {
    vital: Arc<Vital>,
    inbox: mpsc::UnboundedReceiver<Outgoing>,
    /// Nobody can ask for anything any more.
    is_closed: bool,
    id: Option<SessionId>,
    /// To which it was connected last.
    server: Option<Server>,
    /// What must be done on the next connection.
    undone: VecDeque<Asked>,
    failures: u64,
    /// Before the next attempt to connect.
    pause: Duration,
    /// The server to which it was connected last fell silent, or could not be reached again.
    is_avoided: bool,
}

impl Link {
    /// The next connection; none if nobody needs one any more.
    async fn connect(&mut self) -> Option<Joined> {
        let began = Moment::now();
        loop {
            // What is left to release ends by itself, when the session does.
            let is_too_late = Moment::now() >= began.plus(self.vital.options.grace);
            if self.is_closed && (self.undone.is_empty() || is_too_late) {
                return None;
            }
            if !self.is_closed && !self.vital.is_wanted() && self.undone.is_empty() {
                self.rest().await;
                continue;
            }
            if !self.pause.is_zero() {
                self.rest_for(self.pause).await;
            }
            self.pause = self.next_pause();
            match self.try_each().await {
                Ok(joined) => return Some(joined),
                Err(error) => {
                    self.failures += 1;
                    self.vital.state.send_replace(State::Down {
                        error: Some(error),
                        failures: self.failures,
                    });
                }
            }
        }
    }

    fn next_pause(&self) -> Duration {
        let reconnect = self.vital.options.reconnect;
        match self.pause.is_zero() {
            true => reconnect.first_pause.max(SHORTEST_PAUSE),
            false => vary(
                reconnect
                    .longest_pause
                    .min(self.pause.saturating_mul(2))
                    .max(SHORTEST_PAUSE),
            ),
        }
    }

    /// Nobody needs a connection.
    async fn rest(&mut self) {
        tokio::select! {
            outgoing = self.inbox.recv() => self.while_down(outgoing),
            () = self.vital.wanted.notified() => {}
        }
    }

    async fn rest_for(&mut self, pause: Duration) {
        let over = sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                outgoing = self.inbox.recv(), if !self.is_closed => self.while_down(outgoing),
            }
        }
    }

    /// Tries each server once.
    async fn try_each(&mut self) -> Result<Joined, ConnectionError> {
        let vital = Arc::clone(&self.vital);
        let mut last = ConnectionError::ClientClosed;
        for address in &self.in_order() {
            let mut id = self.id.take();
            let joined = {
                let joining = join(&vital, address, &mut id);
                tokio::pin!(joining);
                loop {
                    tokio::select! {
                        joined = &mut joining => break joined,
                        outgoing = self.inbox.recv(), if !self.is_closed => self.while_down(outgoing),
                    }
                }
            };
            self.id = id;
            match joined {
                Ok(joined) => return Ok(joined),
                Err(error) => {
                    let server = self.server.as_ref();
                    self.is_avoided |= server.is_some_and(|server| server.address == *address);
                    self.notice(address, &error);
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// The servers as they are named; but where any of them has the session, the one that was connected to last comes
    /// first, or last if it does not answer: to wait for it once more could take longer than there is time.
    fn in_order(&self) -> Vec<Address> {
        let mut addresses = self.vital.options.servers.addresses().to_vec();
        let server = self.server.as_ref().filter(|server| server.has_others);
        let is_last = |address: &Address| server.is_some_and(|server| server.address == *address);
        if let Some(place) = addresses.iter().position(is_last) {
            addresses.rotate_left(place);
            if self.is_avoided {
                addresses.rotate_left(1);
            }
        }
        addresses
    }

    /// A server that keeps nothing, and at whose address nobody listens any more, has forgotten all
    /// locks.
    fn notice(&mut self, address: &Address, error: &ConnectionError) {
        let ConnectionError::Io { error, .. } = error else {
            return;
        };
        let kinds = [
            std::io::ErrorKind::ConnectionRefused,
            std::io::ErrorKind::NotFound,
        ];
        let was_there = self
            .server
            .as_ref()
            .filter(|server| server.address == *address);
        if was_there.is_some_and(|server| !server.is_durable) && kinds.contains(&error.kind()) {
            self.vital.server_gone();
            self.server = None;
        }
    }

    /// Without a connection nothing can be asked; what must be done waits for the next.
    fn while_down(&mut self, outgoing: Option<Outgoing>) {
        match outgoing {
            None => self.is_closed = true,
            Some(Outgoing::Sever) => {}
            Some(Outgoing::Ask(asked)) => match asked.reply {
                Reply::Must(_) => self.undone.push_back(asked),
                reply => {
                    let error = self.last_error();
                    tell(
                        reply,
                        Err(Broken {
                            error,
                            was_sent: false,
                        }),
                    );
                }
            },
        }
    }

    fn last_error(&self) -> ConnectionError {
        match &*self.vital.state.borrow() {
            State::Down {
                error: Some(error), ..
            } => error.clone(),
            _ => ConnectionError::ClientClosed,
        }
    }

    /// Tells all who asked, and keeps what must be done.
    fn broke(&mut self, wire: Wire, error: ConnectionError) {
        self.is_avoided = !matches!(error, ConnectionError::Closed { .. });
        self.vital.state.send_replace(State::Down {
            error: Some(error.clone()),
            failures: self.failures,
        });
        for asked in wire.unanswered() {
            match asked.reply {
                Reply::Must(_) => self.undone.push_back(asked),
                reply => {
                    let (error, was_sent) = (error.clone(), asked.is_again);
                    tell(reply, Err(Broken { error, was_sent }));
                }
            }
        }
    }
}

/// The outcome goes to whoever asked.
pub(super) fn tell(reply: Reply, outcome: Outcome) {
    match reply {
        // The caller may be gone; whatever it asked for, it has nobody who needs the answer.
        Reply::Caller(caller) | Reply::Must(Some(caller)) => drop(caller.send(outcome)),
        Reply::Must(None) => {}
        Reply::Call(then) => then(outcome),
    }
}

/// Between three quarters of the time and the whole of it, so that many clients of a server that comes
/// back do not all come at once.
fn vary(pause: Duration) -> Duration {
    let chance = u32::try_from(Moment::now().0 / 1_000 % 256).unwrap_or(0);
    pause - pause / 1024 * chance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    fn order(was_connected_to: &str, has_others: bool, is_avoided: bool) -> Vec<String> {
        let servers = "a:1,b:2,c:3".parse().expect("addresses");
        let vital = Vital::new(&Arc::new(Options::new(servers)), &Arc::default());
        let link = Link {
            vital: Arc::new(vital),
            inbox: mpsc::unbounded_channel().1,
            is_closed: false,
            id: None,
            server: Some(Server {
                address: was_connected_to.parse().expect("an address"),
                is_durable: true,
                has_others,
                instance: None,
            }),
            undone: VecDeque::new(),
            failures: 0,
            pause: Duration::ZERO,
            is_avoided,
        };
        link.in_order().iter().map(Address::to_string).collect()
    }

    #[test]
    fn a_session_goes_on_where_it_can_soonest() {
        assert_eq!(order("b:2", true, false), ["b:2", "c:3", "a:1"]);
        assert_eq!(order("b:2", true, true), ["c:3", "a:1", "b:2"]);
        for is_avoided in [false, true] {
            assert_eq!(order("b:2", false, is_avoided), ["a:1", "b:2", "c:3"]);
        }
    }
}
