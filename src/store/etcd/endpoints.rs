//! The nodes of an etcd cluster, and calls to one of them at a time.
//!
//! The one that answered last is asked first; after any failure the next one is. Nothing is tried again here:
//! what has failed may have been done all the same, and only the caller knows what that means.

use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::api::{AuthenticateRequest, AuthenticateResponse};
use super::log::Failure;

/// How long one attempt of a call may take.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(700);

/// How long a node may take to accept a connection, and to show a sign of life on one.
const CONNECT: Duration = Duration::from_millis(500);

/// How long nobody is asked after a failure that came at once.
const BACK_OFF: Duration = Duration::from_millis(30);

/// A page of the log may be large.
const LONGEST_ANSWER: usize = 256 * 1024 * 1024;

/// How the nodes are reached.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    pub(crate) urls: Vec<String>,
    pub(crate) user: Option<(String, String)>,
}

/// Why the nodes cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum BadAccess {
    #[error("{url} is no URL of etcd: {why}")]
    Url {
        url: String,
        why: tonic::transport::Error,
    },
    #[error("{}: {why}", file.display())]
    Password { file: PathBuf, why: String },
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// The nodes.
#[derive(Debug)]
pub(crate) struct Endpoints {
    channels: Vec<Channel>,
    at: usize,
    user: Option<(String, String)>,
    token: Option<MetadataValue<Ascii>>,
}

impl Endpoints {
    /// Connects to nobody yet. Must be called within a runtime, in which the connections live.
    pub(crate) fn new(access: &Access, begin_at: usize) -> Result<Self, BadAccess> {
        let channels = access.urls.iter().map(|url| {
            let bad = |why| BadAccess::Url {
                url: url.clone(),
                why,
            };
            let endpoint = Endpoint::from_shared(url.clone())
                .map_err(bad)?
                .connect_timeout(CONNECT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(CONNECT)
                .keep_alive_timeout(CONNECT)
                .keep_alive_while_idle(true);
            Ok(endpoint.connect_lazy())
        });
        let channels = channels.collect::<Result<Vec<_>, BadAccess>>()?;
        Ok(Self {
            at: begin_at % channels.len().max(1),
            channels,
            user: access.user.clone(),
            token: None,
        })
    }

    /// Calls a method of one request and one answer.
    pub(crate) async fn unary<Q, A>(
        &mut self,
        method: &'static str,
        request: Q,
    ) -> Result<A, Failure>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.log_in().await?;
        let request = self.with_token(request);
        let mut grpc = self.grpc();
        let call = async {
            grpc.ready()
                .await
                .map_err(|error| Status::unavailable(error.to_string()))?;
            grpc.unary(
                request,
                PathAndQuery::from_static(method),
                ProstCodec::default(),
            )
            .await
        };
        let outcome = timeout(ATTEMPT, call).await;
        self.after(outcome).await.map(tonic::Response::into_inner)
    }

    /// Calls a method whose answers are a stream, with one request. The call stays open as long as the
    /// stream is kept.
    pub(crate) async fn streaming<Q, A>(
        &mut self,
        method: &'static str,
        request: Q,
    ) -> Result<Streaming<A>, Failure>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.log_in().await?;
        // The end of the requests would be the end of the call.
        let requests =
            tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
        let requests = self.with_token(requests);
        let mut grpc = self.grpc();
        let call = async {
            grpc.ready()
                .await
                .map_err(|error| Status::unavailable(error.to_string()))?;
            grpc.streaming(
                requests,
                PathAndQuery::from_static(method),
                ProstCodec::default(),
            )
            .await
        };
        let outcome = timeout(ATTEMPT, call).await;
        self.after(outcome).await.map(tonic::Response::into_inner)
    }

    /// The next message of a stream; `None` if it was silent for this time.
    pub(crate) async fn message<A>(
        &mut self,
        stream: &mut Streaming<A>,
        within: Duration,
    ) -> Result<Option<A>, Failure> {
        let outcome = match timeout(within, stream.message()).await {
            Err(_) => return Ok(None),
            Ok(Ok(Some(message))) => return Ok(Some(message)),
            Ok(Ok(None)) => Ok(Err(Status::unavailable("the stream has ended"))),
            Ok(Err(status)) => Ok(Err(status)),
        };
        self.after(outcome).await
    }

    /// Has the next call go to another node.
    pub(crate) fn next(&mut self) {
        self.at = (self.at + 1) % self.channels.len().max(1);
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channels[self.at].clone()).max_decoding_message_size(LONGEST_ANSWER)
    }

    fn with_token<Q>(&self, request: Q) -> Request<Q> {
        let mut request = Request::new(request);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// Gets a token, where names and passwords are used and there is none.
    async fn log_in(&mut self) -> Result<(), Failure> {
        let Some((name, password)) = self.user.clone().filter(|_| self.token.is_none()) else {
            return Ok(());
        };
        let request = Request::new(AuthenticateRequest { name, password });
        let mut grpc = self.grpc();
        let call = async {
            grpc.ready()
                .await
                .map_err(|error| Status::unavailable(error.to_string()))?;
            let method = PathAndQuery::from_static("/etcdserverpb.Auth/Authenticate");
            grpc.unary(
                request,
                method,
                ProstCodec::<_, AuthenticateResponse>::default(),
            )
            .await
        };
        let outcome = timeout(ATTEMPT, call).await;
        let answer = self.after(outcome).await?.into_inner();
        let no_token = |_| Failure::Refused("etcd's token is no header".to_owned());
        self.token = Some(answer.token.parse().map_err(no_token)?);
        Ok(())
    }

    /// What an outcome means; after a failure the next call goes to another node.
    async fn after<A>(
        &mut self,
        outcome: Result<Result<A, Status>, tokio::time::error::Elapsed>,
    ) -> Result<A, Failure> {
        match outcome {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => {
                let failure = failure_of(&status);
                if status.code() == Code::Unauthenticated {
                    self.token = None;
                }
                if let Failure::InDoubt(_) = failure {
                    self.next();
                    tokio::time::sleep(BACK_OFF).await;
                }
                Err(failure)
            }
            Err(_) => {
                self.next();
                Err(Failure::InDoubt(format!(
                    "no answer within {} ms",
                    ATTEMPT.as_millis()
                )))
            }
        }
    }
}

/// Only a few words of etcd itself say that something was not done: the connection's errors have the same
/// codes.
fn failure_of(status: &Status) -> Failure {
    let message = status.message().to_owned();
    let is_refusal = matches!(
        status.code(),
        Code::ResourceExhausted
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
    );
    match is_refusal && message.starts_with("etcdserver:") {
        true => Failure::Refused(message),
        false => Failure::InDoubt(format!("{:?}: {message}", status.code())),
    }
}
