//! A client's stream through which nothing leaves of a server with others beside it but while it surely
//! leads.
//!
//! Everything that is written to a client of a leader goes through here, so that no answer can be
//! forgotten: also one that was ready before the process, or its machine, stood still for a while.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::leadership::{Answering, Leadership};
use super::plant::{self, Plant};
use crate::server::Transport;

/// Waits until answers may leave again, or never.
type Wait = Pin<Box<dyn Future<Output = bool> + Send>>;

/// A stream of a client.
pub(crate) struct Guarded<S> {
    stream: S,
    /// `None` if the server is alone.
    leadership: Option<Arc<Leadership>>,
    /// While answers are suspended and somebody wants to write.
    wait: Option<Wait>,
}

impl<S> Guarded<S> {
    /// Of a server with this leadership; `None` if it is alone, and nothing is to be guarded.
    pub(crate) fn new(stream: S, leadership: Option<Arc<Leadership>>) -> Self {
        Self {
            stream,
            leadership,
            wait: None,
        }
    }

    /// Ready at once while this server surely leads; when that is open, as soon as it is known.
    ///
    /// # Errors
    ///
    /// If it does not lead any more.
    fn poll_answering(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(leadership) = &self.leadership else {
            return Poll::Ready(Ok(()));
        };
        if plant::is(Plant::Memory) {
            return Poll::Ready(Ok(()));
        }
        loop {
            match leadership.answering() {
                Answering::Yes => {
                    self.wait = None;
                    return Poll::Ready(Ok(()));
                }
                Answering::Over => {
                    return Poll::Ready(Err(io::Error::other(
                        "this server does not lead any more",
                    )));
                }
                Answering::Suspended => {}
            }
            let wait = self.wait.get_or_insert_with(|| {
                let leadership = Arc::clone(leadership);
                Box::pin(async move { leadership.may_answer().await })
            });
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: Transport> AsyncWrite for Guarded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let guarded = self.get_mut();
        ready!(guarded.poll_answering(context))?;
        Pin::new(&mut guarded.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guarded = self.get_mut();
        ready!(guarded.poll_answering(context))?;
        Pin::new(&mut guarded.stream).poll_flush(context)
    }

    /// The end of a connection says nothing of a lock, and may be told unless answers are held back that
    /// would go with it.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guarded = self.get_mut();
        if guarded.stream.holds_back() {
            ready!(guarded.poll_answering(context))?;
        }
        Pin::new(&mut guarded.stream).poll_shutdown(context)
    }
}

impl<S: Transport> Transport for Guarded<S> {
    fn holds_back(&self) -> bool {
        self.stream.holds_back()
    }

    fn part(&mut self, context: &mut Context<'_>) {
        if !self.stream.holds_back() || matches!(self.poll_answering(context), Poll::Ready(Ok(())))
        {
            self.stream.part(context);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::super::Lost;
    use super::super::leadership::test_clock::{go_on, now};
    use super::*;

    const TTL: Duration = Duration::from_secs(2);

    fn start() -> (
        Arc<Leadership>,
        Guarded<tokio::io::DuplexStream>,
        tokio::io::DuplexStream,
    ) {
        let leadership = Arc::new(Leadership::new(now, TTL, now()));
        let (ours, theirs) = tokio::io::duplex(1024);
        (
            Arc::clone(&leadership),
            Guarded::new(ours, Some(leadership)),
            theirs,
        )
    }

    async fn left(theirs: &mut tokio::io::DuplexStream) -> Option<String> {
        let mut bytes = [0; 64];
        let read = timeout(Duration::from_secs(1), theirs.read(&mut bytes))
            .await
            .ok()?;
        Some(String::from_utf8_lossy(&bytes[..read.expect("it is open")]).into_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_until_the_lease_is_renewed() {
        let (leadership, mut ours, mut theirs) = start();
        ours.write_all(b"200").await.expect("it leads");
        assert_eq!(left(&mut theirs).await.as_deref(), Some("200"));
        // As the process stands still.
        go_on(TTL);
        assert_eq!(leadership.answering(), Answering::Suspended);
        let write = tokio::spawn(async move { ours.write_all(b"409").await.map(|()| ours) });
        assert_eq!(left(&mut theirs).await, None);
        leadership.renewed(now());
        assert_eq!(left(&mut theirs).await.as_deref(), Some("409"));
        assert!(write.await.expect("no panic").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_leaves_once_another_may_lead() {
        for ends_by_itself in [true, false] {
            let (leadership, mut ours, mut theirs) = start();
            go_on(TTL);
            let write = tokio::spawn(async move { ours.write_all(b"200").await });
            assert_eq!(left(&mut theirs).await, None);
            match ends_by_itself {
                true => go_on(Duration::from_secs(60)),
                false => leadership.lose(Lost::Deposed),
            }
            assert!(write.await.expect("no panic").is_err());
            assert_eq!(left(&mut theirs).await.as_deref(), Some(""), "it is closed");
            // A renewal that comes late is worth nothing.
            leadership.renewed(now());
            assert_eq!(leadership.answering(), Answering::Over);
        }
    }
}
