//! For the fuzzer: the HTTP side of a server over pipes, on the runtime and the clock of whoever asks.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::io::DuplexStream;

use super::seats::Seats;
use super::stage::Stage;
use super::{Admin, listener, routes};
use crate::config::Config;
use crate::model::Peer;
use crate::server::ServerHandle;
use crate::server::harness::{Client, Server};

/// A server without sockets. Everything needs the runtime in which it was made.
#[allow(missing_debug_implementations)]
pub struct InMemory {
    server: Server,
    admin: Admin,
    router: Router,
    seats: Arc<Seats>,
    /// Those of the protocol, who stay.
    clients: Vec<Client>,
}

impl InMemory {
    /// One that has still to load.
    pub fn loading(config: Config) -> Self {
        let admin = Admin::loading(&config);
        Self {
            server: Server::start_with(|default| *default = config),
            router: routes::router(admin.clone()),
            admin,
            seats: Arc::default(),
            clients: Vec::new(),
        }
    }

    /// From here on it can be asked.
    pub fn serves(&self) {
        let handle = ServerHandle::new(&self.server.shared);
        self.admin.stage.enter(Stage::Serving(handle));
    }

    /// From here on it stops.
    pub fn begins_to_stop(&self) {
        self.server.shared.begin_stop();
    }

    /// Connects a client of the protocol, and returns by which number it goes here.
    pub fn connect(&mut self) -> usize {
        self.clients.push(self.server.connect_by(4096));
        self.clients.len() - 1
    }

    /// Has a client send a request, whose answer must begin with this.
    pub async fn ask(&mut self, client: usize, line: &str, beginning: &str) {
        let client = &mut self.clients[client];
        client.send(line).await;
        let answer = client.answers.next_line().await.expect("a line");
        let answer = answer.expect("an answer");
        assert!(answer.starts_with(beginning), "{line}: {answer}");
    }

    /// Has a client send a request that waits, as one of so many.
    pub async fn wait(&mut self, client: usize, line: &str, waiting: usize) {
        self.clients[client].send(line).await;
        self.server.until_waiting(waiting).await;
    }

    /// Serves one connection of HTTP, from this address, to its end.
    pub async fn serve(&self, stream: DuplexStream, from: SocketAddr) {
        let seat = self.seats.take().await;
        listener::serve(stream, Peer::Tcp(from), seat, self.router.clone()).await;
    }
}
