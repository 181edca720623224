//! The nodes of an etcd cluster, and calls to one of them at a time.
//!
//! The one that answered last is asked first; after any failure the next one is. Nothing is tried again here:
//! what has failed may have been done all the same, and only the caller knows what that means.

use std::path::PathBuf;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::api::Call;
use super::log::LONGEST_ENTRY;
#[cfg(feature = "tls")]
use super::tls::{self, TlsFiles};
use super::txn::Failure;
use super::user::{AuthToken, User, asks_for_token};
#[cfg(feature = "tls")]
use crate::certificate_files::TlsError;

/// How long one attempt of a call may take.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(700);

/// How long a node may take to accept a connection, and to show a sign of life on one.
const CONNECT: Duration = Duration::from_millis(500);

/// How long nobody is asked after a failure that came at once.
const BACK_OFF: Duration = Duration::from_millis(30);

/// How long nobody is asked after a name and password that were not taken.
const AFTER_LOGIN: Duration = Duration::from_millis(500);

/// What etcd says to a name and password while it lets in everybody.
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";

/// How many bytes an answer may have. One entry of the log is always within that.
pub(super) const LONGEST_ANSWER: usize = 64 * LONGEST_ENTRY;

/// How the nodes are reached.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    pub(crate) urls: Vec<String>,
    #[cfg(feature = "tls")]
    pub(crate) tls: TlsFiles,
    pub(crate) user: Option<User>,
}

/// Why the nodes cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum BadAccess {
    /// A node's URL.
    #[error("{url} is no URL of etcd: {why}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: tonic::transport::Error,
    },
    /// The file of the password.
    #[error("{}: {why}", file.display())]
    Password {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file of TLS.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What the system lacks.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// The nodes.
#[derive(Debug)]
pub(crate) struct Endpoints {
    channels: Vec<Channel>,
    at: usize,
    user: Option<User>,
}

impl Endpoints {
    /// Connects to nobody yet. Must be called within a runtime, in which the connections live.
    pub(crate) fn new(access: &Access, begin_at: usize) -> Result<Self, BadAccess> {
        let channels = access.urls.iter().map(|url| channel(url, access));
        let channels = channels.collect::<Result<Vec<_>, BadAccess>>()?;
        Ok(Self {
            at: begin_at % channels.len().max(1),
            channels,
            user: access.user.clone(),
        })
    }

    /// Makes a call of one request and one answer. Where etcd does not know the token any more, it has done
    /// nothing: then it is asked once more, with a new one.
    pub(crate) async fn unary<Q: Call>(&mut self, request: Q) -> Result<Q::Answer, Failure> {
        self.unary_within(ATTEMPT, request).await
    }

    /// The same where an attempt may take this long.
    pub(crate) async fn unary_within<Q: Call>(
        &mut self,
        attempt: Duration,
        request: Q,
    ) -> Result<Q::Answer, Failure> {
        self.log_in().await?;
        let used = self.token();
        let again = used.is_some().then(|| request.clone());
        match (self.call(attempt, request).await, again) {
            (Err(Failure::Refused(_)), Some(request)) if self.token() != used => {
                self.log_in().await?;
                self.call(attempt, request).await
            }
            (outcome, _) => outcome,
        }
    }

    async fn call<Q: Call>(&mut self, attempt: Duration, request: Q) -> Result<Q::Answer, Failure> {
        let request = self.with_token(request);
        let mut grpc = self.grpc();
        let call = async {
            grpc.ready().await.map_err(unavailable)?;
            let method = PathAndQuery::from_static(Q::METHOD);
            grpc.unary(request, method, ProstCodec::default()).await
        };
        let outcome = timeout(attempt, call).await;
        let answer = self.after(attempt, outcome).await?;
        Ok(answer.into_inner())
    }

    /// Makes a call whose answers are a stream, with one request. The call stays open as long as the stream is
    /// kept.
    pub(crate) async fn streaming<Q: Call>(
        &mut self,
        request: Q,
    ) -> Result<Streaming<Q::Answer>, Failure> {
        self.log_in().await?;
        // The end of the requests would be the end of the call.
        let requests =
            tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
        let requests = self.with_token(requests);
        let mut grpc = self.grpc();
        let call = async {
            grpc.ready().await.map_err(unavailable)?;
            let method = PathAndQuery::from_static(Q::METHOD);
            grpc.streaming(requests, method, ProstCodec::default())
                .await
        };
        let outcome = timeout(ATTEMPT, call).await;
        let answers = self.after(ATTEMPT, outcome).await?;
        Ok(answers.into_inner())
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
        self.after(within, outcome).await
    }

    /// The place in the list of the node that is asked next.
    pub(crate) fn place(&self) -> usize {
        self.at
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
        if let Some(AuthToken::Given(token)) = self.token() {
            request.metadata_mut().insert("token", token);
        }
        request
    }

    fn token(&self) -> Option<AuthToken> {
        self.user.as_ref().map(User::token)
    }

    /// Gets a token, where names and passwords are used and there is none.
    async fn log_in(&mut self) -> Result<(), Failure> {
        let user = match &self.user {
            Some(user) if user.token() == AuthToken::Needed => user.clone(),
            _ => return Ok(()),
        };
        let request = user.login();
        let answer = self.call(ATTEMPT, request).await;
        let token = match answer {
            Ok(answer) => {
                let no_token = |_| Failure::Refused("etcd's token is no header".to_owned());
                let mut token: MetadataValue<Ascii> = answer.token.parse().map_err(no_token)?;
                token.set_sensitive(true);
                AuthToken::Given(token)
            }
            Err(Failure::InDoubt(why)) if why.ends_with(NOT_ENABLED) => AuthToken::NotAsked,
            Err(why) => {
                if let Failure::Refused(_) = why {
                    // Each try costs etcd a tenth of a second of its processor.
                    tokio::time::sleep(AFTER_LOGIN).await;
                }
                return Err(why);
            }
        };
        user.set_token(token);
        Ok(())
    }

    /// What an outcome means; after a failure the next call goes to another node.
    async fn after<A>(
        &mut self,
        attempt: Duration,
        outcome: Result<Result<A, Status>, tokio::time::error::Elapsed>,
    ) -> Result<A, Failure> {
        let failure = match outcome {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => {
                if let Some(user) = &self.user
                    && asks_for_token(&status)
                {
                    user.set_token(AuthToken::Needed);
                    return Err(failure_of(&status));
                }
                tokio::time::sleep(BACK_OFF).await;
                failure_of(&status)
            }
            Err(_) => Failure::InDoubt(format!("no answer within {} ms", attempt.as_millis())),
        };
        if let Failure::InDoubt(_) = failure {
            self.next();
        }
        Err(failure)
    }
}

fn channel(url: &str, access: &Access) -> Result<Channel, BadAccess> {
    let bad = |why| BadAccess::Url {
        url: url.to_owned(),
        why,
    };
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(bad)?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(CONNECT)
        .keep_alive_timeout(CONNECT)
        .keep_alive_while_idle(true);
    #[cfg(feature = "tls")]
    if url.starts_with("https://") {
        let files = Arc::new(access.tls.clone());
        let connector = tower::service_fn(move |uri| tls::connect(uri, Arc::clone(&files)));
        return Ok(endpoint.connect_with_connector_lazy(connector));
    }
    #[cfg(not(feature = "tls"))]
    let _ = access;
    Ok(endpoint.connect_lazy())
}

fn unavailable(error: impl std::error::Error) -> Status {
    Status::unavailable(with_cause(&error))
}

/// An error of the connection, with what the system or TLS has said of it.
fn with_cause(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    match causes.last() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Only a few words of etcd itself say that something was not done: the connection's errors have the same
/// codes.
fn failure_of(status: &Status) -> Failure {
    let message = status.message().to_owned();
    if status.code() == Code::OutOfRange && message.contains("message length too large") {
        return Failure::TooLong(message);
    }
    let is_refusal = matches!(
        status.code(),
        Code::ResourceExhausted
            | Code::InvalidArgument
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
    );
    let is_of_etcd = message.starts_with("etcdserver:")
        // By its server of gRPC, which has not given the request to it.
        || message.contains("received message larger than max");
    match is_refusal && is_of_etcd {
        true => Failure::Refused(message),
        false => Failure::InDoubt(match std::error::Error::source(status) {
            Some(error) => with_cause(error),
            None => format!("{:?}: {message}", status.code()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::real_etcd::{RealEtcd, ask_until_decided};

    fn user(password: &str) -> Option<User> {
        Some(User::new("elock".to_owned(), password.to_owned()))
    }

    #[tokio::test]
    async fn a_user_logs_in_and_again_when_etcd_has_forgotten_the_token() {
        let Some(etcd) = RealEtcd::start() else {
            return;
        };
        let with = |user| Access {
            user,
            ..etcd.access.clone()
        };
        let nodes = |access: &Access| Endpoints::new(access, 0).expect("a URL");
        let mut early = nodes(&with(user("right")));
        // It lets in everybody as yet.
        ask_until_decided(&mut early).await.expect("it answers");
        etcd.ask_for_users("elock", "right");
        assert!(ask_until_decided(&mut nodes(&with(None))).await.is_err());
        let mut wrong = nodes(&with(user("wrong")));
        let Err(Failure::Refused(why)) = ask_until_decided(&mut wrong).await else {
            panic!("a wrong password is a refusal");
        };
        assert!(why.contains("authentication failed"), "{why}");
        // One that others have as well, and whose token others ask for.
        let shared = with(user("right"));
        let (mut late, mut later) = (nodes(&shared), nodes(&shared));
        for nodes in [&mut early, &mut late, &mut later] {
            assert!(ask_until_decided(nodes).await.is_ok());
        }
        // Ends the user's tokens.
        etcd.set_password("elock", "right");
        for nodes in [&mut early, &mut late, &mut later] {
            assert!(ask_until_decided(nodes).await.is_ok());
        }
    }
}
