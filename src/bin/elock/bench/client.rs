//! One client: a connection, and the requests that it sends as long as it is not stopped.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::ReadBuf;

use super::course::{Course, Desk, Lane};
use super::failure::{Failure, shown};
use super::nearby::Target;
use super::replies::{Replies, code};
use super::script::{Batch, Script, Step};
use super::stream::Stream;
use super::workload::CHURN_REQUESTS;

/// Before anything else: what the client holds ends with its connection.
const GREETING: &str = "set_timeout 0";
/// How much a server may send behind a `quit`.
const LONGEST_FAREWELL: usize = 64 << 10;

/// A client's place in a measurement.
#[derive(Debug, Clone)]
pub struct Place {
    /// The measurement.
    pub course: Arc<Course>,
    /// Which thread's it is.
    pub lane: usize,
    /// How many requests it sends at once.
    pub pipeline: usize,
}

impl Place {
    fn lane(&self) -> &Lane {
        &self.course.lanes[self.lane]
    }

    /// A connection of which the first request was answered.
    ///
    /// # Errors
    ///
    /// The server is not there, or refuses it.
    pub async fn connect(&self, target: &Target) -> Result<Stream, Failure> {
        let mut stream = Stream::connect(target).await?;
        let greeting = format!("{GREETING}\n");
        stream
            .write_all(greeting.as_bytes())
            .await
            .map_err(Failure::Broken)?;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let read = poll_fn(|cx| {
                self.poll_read(cx, &mut stream, &mut |bytes, _| {
                    line.extend_from_slice(bytes)
                })
            });
            if read.await? == 0 || line.len() > LONGEST_FAREWELL {
                break;
            }
        }
        match code(&line) {
            Some(200) => Ok(stream),
            Some(_) => Err(Failure::TurnedAway {
                request: GREETING,
                answer: shown(&line),
            }),
            None if line.is_empty() => Err(Failure::Closed),
            None => Err(Failure::NotAnAnswer(shown(&line))),
        }
    }

    /// Sends the requests of the script in turn until it is stopped, and then ends the connection, by
    /// which what it holds is released.
    ///
    /// # Errors
    ///
    /// The connection broke, or what came is no answer.
    pub async fn go_on(&self, mut stream: Stream, script: &Script) -> Result<(), Failure> {
        let mut replies = Replies::default();
        let mut next = 0;
        self.course.until_begun().await;
        while !self.course.is_stopping() {
            let batch = script.batch(next, self.pipeline);
            self.ask(&mut stream, batch, &mut replies).await?;
            next = (next + self.pipeline) % script.len();
        }
        // The server may be quicker to close than this is to ask for it.
        if stream.write_all(b"quit\n").await.is_ok() {
            let _ = self.read_to_the_end(&mut stream).await;
        }
        Ok(())
    }

    /// Connects anew for each key until it is stopped.
    ///
    /// # Errors
    ///
    /// A connection broke, or what came is no answer.
    pub async fn churn(&self, target: &Target, script: &Script) -> Result<(), Failure> {
        let mut begin = 0;
        self.course.until_begun().await;
        while !self.course.is_stopping() {
            let mut stream = Stream::connect(target).await?;
            let mut replies = Replies::default();
            let mut sent = 0;
            while sent < CHURN_REQUESTS {
                let requests = self.pipeline.min(CHURN_REQUESTS - sent);
                let batch = script.batch(begin + sent, requests);
                self.ask(&mut stream, batch, &mut replies).await?;
                sent += requests;
            }
            // Whoever closes first keeps the port for a minute: that has to be the server.
            self.read_to_the_end(&mut stream).await?;
            self.lane().desk().tally.connections += 1;
            begin = (begin + CHURN_REQUESTS) % script.len();
        }
        Ok(())
    }

    /// Sends a batch and reads its answers.
    async fn ask(
        &self,
        stream: &mut Stream,
        batch: Batch<'_>,
        replies: &mut Replies,
    ) -> Result<(), Failure> {
        let sent = Instant::now();
        stream
            .write_all(batch.bytes)
            .await
            .map_err(Failure::Broken)?;
        let mut steps = batch.steps;
        while !steps.is_empty() {
            let answers = poll_fn(|cx| self.poll_answers(cx, stream, steps, sent, replies)).await?;
            steps = &steps[answers..];
        }
        Ok(())
    }

    fn poll_answers(
        &self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        steps: &[Step],
        sent: Instant,
        replies: &mut Replies,
    ) -> Poll<Result<usize, Failure>> {
        let mut answers = Ok(0);
        let read = self.poll_read(cx, stream, &mut |bytes, tally| {
            let (done, grants) = (tally.done, tally.grants);
            answers = replies.read(bytes, steps, tally);
            tally.took(sent, done, grants);
        });
        match ready!(read)? {
            0 => Poll::Ready(Err(Failure::Closed)),
            _ => Poll::Ready(answers),
        }
    }

    /// Reads what is there to the thread's desk, and has a look at it there.
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        look: &mut dyn FnMut(&[u8], &mut super::tally::Tally),
    ) -> Poll<Result<usize, Failure>> {
        let mut desk = self.lane().desk();
        let Desk { buffer, tally } = &mut *desk;
        let mut read = ReadBuf::new(buffer);
        ready!(stream.poll_read(cx, &mut read)).map_err(Failure::Broken)?;
        self.lane().lives();
        look(read.filled(), tally);
        Poll::Ready(Ok(read.filled().len()))
    }

    async fn read_to_the_end(&self, stream: &mut Stream) -> Result<(), Failure> {
        let mut taken = 0;
        while taken < LONGEST_FAREWELL {
            match poll_fn(|cx| self.poll_read(cx, stream, &mut |_, _| ())).await? {
                0 => break,
                bytes => taken += bytes,
            }
        }
        Ok(())
    }
}
