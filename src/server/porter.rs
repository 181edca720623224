//! Who lets operators in: a server that has a table, and one that has none.

use std::future::Future;
use std::sync::Arc;

use super::arrival::ip_of;
use super::desk::{Desk, NotLetIn};
use crate::access::User;
use crate::model::Peer;

/// Lets in the operators whom its desk knows.
pub(crate) trait Porter: Sync {
    /// Whom it asks.
    fn desk(&self) -> &Desk;

    /// Notes why nobody is let in by this name.
    fn note_refused(&self, why: NotLetIn, name: &[u8], peer: Peer);

    /// Whether operators are asked who they are.
    fn asks_operators(&self) -> bool {
        self.desk().asks_operators()
    }

    /// As whom an operator comes in who says no password; `None` if that is nobody.
    fn operator_at_the_door(&self, peer: Peer) -> Option<Arc<User>> {
        self.desk().operator_at_the_door(peer)
    }

    /// The user whom this name and password stand for. Wrong ones are slowed down.
    ///
    /// # Errors
    ///
    /// If nobody is let in by that.
    fn verify_operator(
        &self,
        name: &[u8],
        password: &[u8],
        peer: Peer,
    ) -> impl Future<Output = Result<Arc<User>, NotLetIn>> + Send {
        async move {
            let verified = self.desk().verify_operator(name, password, ip_of(peer));
            let verified = verified.await;
            verified.inspect_err(|why| self.note_refused(*why, name, peer))
        }
    }
}
