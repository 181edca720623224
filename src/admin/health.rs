//! Whether the server lives.

/// `GET /healthz`: the server lives if it answers at all. A restart helps against nothing that it could
/// tell: that it has too much to do, that it is loading, or that its disk is full.
pub(super) async fn live() -> &'static str {
    "ok\n"
}
