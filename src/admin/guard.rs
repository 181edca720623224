//! Who may ask for what. Every path but those of [`routes::open`](super::routes) is behind one of the two
//! layers here: [`may_read`], or [`may_act`] for what changes something.
//!
//! A browser of the operator's is the way in for strangers who cannot reach the port themselves, so two
//! things are checked that a browser says truly of a page, whatever the page wants:
//!
//! - Which name it was told to go to. By a name of their own that they point to this machine, strangers
//!   could have their page count as ours; so without a password this server answers to no name that a
//!   stranger could give it.
//! - Where a request that acts comes from. It must come from a page of ours, or from no page at all.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, FromRequest, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{Extensions, HeaderMap, HeaderName, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::time::timeout;

use super::Admin;
use super::api::Problem;
use super::listener::PART_TIME;
use super::seats::Seat;
use super::stage::Stage;
use crate::access::User;
use crate::config::{Address, Config};
use crate::model::{Peer, Visible};
use crate::server::{NotLetIn, NotReady, Porter};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What the two layers know.
#[derive(Debug)]
pub(super) struct Guard {
    /// The names that the operator has the listeners open.
    names: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Nobody can be asked who may come in.
    #[error(transparent)]
    Loading(NotReady),
    /// The request's `Host` is a name that may be a stranger's.
    #[error(
        "without a password this server answers only to localhost, to IP addresses and to the names in \
         --admin"
    )]
    ForeignName,
    /// A page of another server sends the request.
    #[error("requests that act must not come from another server's page")]
    ForeignOrigin,
    /// The request does not say who it is from.
    #[error("this server asks for a user and a password")]
    NoPassword,
    /// The request says so, and it is not true, or cannot be looked at now.
    #[error(transparent)]
    NotLetIn(NotLetIn),
    /// It is true, and not enough.
    #[error("this user may not do that")]
    NotAllowed,
    /// Its body does not come.
    #[error("the request's body did not come within {} s", PART_TIME.as_secs())]
    SlowBody,
    /// Its body is too long, or breaks off.
    #[error("{1}")]
    BadBody(StatusCode, String),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Loading(_) | Self::NotLetIn(NotLetIn::Busy) => StatusCode::SERVICE_UNAVAILABLE,
            Self::ForeignName | Self::ForeignOrigin | Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::NoPassword | Self::NotLetIn(NotLetIn::Wrong) => StatusCode::UNAUTHORIZED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::BadBody(status, _) => status,
        };
        let is_of_body = matches!(self, Self::SlowBody | Self::BadBody(..));
        let text = format!("{self}\n");
        match status {
            StatusCode::UNAUTHORIZED => {
                let ask = [(
                    WWW_AUTHENTICATE,
                    "Basic realm=\"elockd\", charset=\"UTF-8\"",
                )];
                (status, ask, text).into_response()
            }
            StatusCode::SERVICE_UNAVAILABLE => (status, [(RETRY_AFTER, "1")], text).into_response(),
            // Only programs send bodies, and read what is wrong with them.
            _ if is_of_body => Problem::new(status, self.to_string()).into_response(),
            _ => (status, text).into_response(),
        }
    }
}

/// The layer before everything that shows something. Behind it a handler finds the [`User`] among the
/// request's extensions.
pub(super) async fn may_read(
    State(admin): State<Admin>,
    Extension(seat): Extension<Arc<Seat>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refused> {
    let user = admin
        .who_asks(request.headers(), peer_of(request.extensions()))
        .await?;
    if !user.may_read() {
        return Err(Refused::NotAllowed);
    }
    request.extensions_mut().insert(user);
    let _work = seat.work().await;
    Ok(next.run(request).await)
}

/// The layer before everything that changes something. Behind it, as behind [`may_read`], is a user; a
/// user who may name only some keys may act on no others. Only a whole request goes on.
pub(super) async fn may_act(
    State(admin): State<Admin>,
    Extension(seat): Extension<Arc<Seat>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refused> {
    check_origin(request.headers())?;
    let user = admin
        .who_asks(request.headers(), peer_of(request.extensions()))
        .await?;
    if !user.may_admin() {
        if let Stage::Serving(server) = admin.stage.get() {
            let peer = peer_of(request.extensions());
            server.note_not_allowed(peer, &user, shown(request).await);
        }
        return Err(Refused::NotAllowed);
    }
    request.extensions_mut().insert(user);
    let request = whole(request).await?;
    let _work = seat.work().await;
    Ok(next.run(request).await)
}

/// `/api/kick {"session":24}`, or the path alone if the body does not come.
async fn shown(request: Request) -> String {
    let path = request.uri().path().to_owned();
    let Ok(request) = whole(request).await else {
        return path;
    };
    let body = Bytes::from_request(request, &()).await.unwrap_or_default();
    format!("{path} {}", Visible(&body))
}

/// The request with all of its body.
async fn whole(request: Request) -> Result<Request, Refused> {
    let (parts, body) = request.into_parts();
    let body = Request::from_parts(parts.clone(), body);
    let Ok(body) = timeout(PART_TIME, Bytes::from_request(body, &())).await else {
        return Err(Refused::SlowBody);
    };
    let body = body.map_err(|bad| Refused::BadBody(bad.status(), bad.body_text()))?;
    Ok(Request::from_parts(parts, body.into()))
}

impl Admin {
    /// Who makes the request. A password that is right is enough; without one, who may come in so.
    async fn who_asks(&self, headers: &HeaderMap, peer: Peer) -> Result<Arc<User>, Refused> {
        match self.stage.get() {
            Stage::Loading => Err(Refused::Loading(NotReady::Loading)),
            #[cfg(feature = "cluster")]
            Stage::Following(node) => self.let_in(&*node.lobby, headers, peer).await,
            Stage::Serving(server) => self.let_in(&server, headers, peer).await,
        }
    }

    async fn let_in(
        &self,
        porter: &impl Porter,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Arc<User>, Refused> {
        // Where nobody is asked, a password proves nothing: a stranger's page can send one, too.
        let said = headers.get(AUTHORIZATION);
        if let Some(said) = said.filter(|_| porter.asks_operators()) {
            let (name, password) = name_and_password(said.as_bytes()).ok_or(Refused::NoPassword)?;
            let verified = porter.verify_operator(&name, &password, peer).await;
            return verified.map_err(Refused::NotLetIn);
        }
        self.guard.check_name(headers)?;
        let user = porter.operator_at_the_door(peer);
        user.ok_or(Refused::NoPassword)
    }
}

/// Where a request comes from, which its connection has told.
fn peer_of(known: &Extensions) -> Peer {
    known.get().copied().unwrap_or(Peer::BeforeRestart)
}

/// Those of HTTP's scheme `Basic`.
fn name_and_password(said: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, both) = said.split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let both = STANDARD.decode(both.trim_ascii()).ok()?;
    let colon = both.iter().position(|byte| *byte == b':')?;
    Some((both[..colon].to_vec(), both[colon + 1..].to_vec()))
}

impl Guard {
    pub(super) fn new(config: &Config) -> Self {
        let names = config.admin.iter().filter_map(|address| match address {
            Address::Tcp(address) => Some(address.rsplit_once(':')?.0.to_owned()),
            #[cfg(feature = "tls")]
            Address::Tls(_) => None,
            Address::Unix(_) => None,
        });
        let names = names.collect();
        Self { names }
    }

    fn check_name(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Refused::ForeignName);
        };
        let host = host.to_str().ok().and_then(|host| host.parse().ok());
        match host.is_some_and(|host| self.is_our_name(&host)) {
            true => Ok(()),
            false => Err(Refused::ForeignName),
        }
    }

    /// Whether no name server of a stranger's can have a browser come here by this name: a host, and perhaps
    /// a port, with nothing before, between or behind.
    fn is_our_name(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let behind = authority.as_str().strip_prefix(host);
        let port = behind.and_then(|behind| behind.strip_prefix(':'));
        if behind != Some("") && port.is_none_or(|port| port.parse::<u16>().is_err()) {
            return false;
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self
                .names
                .iter()
                .any(|name| host.eq_ignore_ascii_case(name))
    }
}

/// As the `CrossOriginProtection` of Go's library does: what a browser says of where the request comes
/// from, or else whether the page's server is the one that is asked. Whoever says neither is no browser.
fn check_origin(headers: &HeaderMap) -> Result<(), Refused> {
    let is_ours = match (headers.get(SEC_FETCH_SITE), headers.get(ORIGIN)) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, Some(origin)) => {
            let origin: Option<Uri> = origin.to_str().ok().and_then(|origin| origin.parse().ok());
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            let authority = origin.as_ref().and_then(|origin| origin.authority());
            authority.is_some_and(|authority| Some(authority.as_str()) == host)
        }
        (None, None) => true,
    };
    match is_ours {
        true => Ok(()),
        false => Err(Refused::ForeignOrigin),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tokio::time::Instant;
    use tokio_util::io::ReaderStream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let (_sender, receiver) = tokio::io::duplex(8);
        let (begin, body) = (Instant::now(), ReaderStream::new(receiver));
        let late = whole(Request::new(Body::from_stream(body))).await;
        assert_eq!(late.map(drop), Err(Refused::SlowBody));
        assert!((PART_TIME..2 * PART_TIME).contains(&begin.elapsed()));
    }

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn only_names_that_no_stranger_can_point_here_are_ours() {
        let guard = Guard::new(&Config {
            admin: vec!["locks.internal:11480".parse().expect("an address")],
            ..Config::default()
        });
        let check = |host: &str| guard.check_name(&headers(&[(HOST, host)]));
        for ours in [
            "localhost",
            "LOCALHOST:11480",
            "127.0.0.1:11480",
            "[::1]:11480",
            "10.0.0.5",
            "locks.internal:11480",
        ] {
            assert_eq!(check(ours), Ok(()), "{ours}");
        }
        for foreign in [
            "evil.example",
            "localhost.evil.example",
            "evil.example:11480",
            "127.0.0.1.evil.example",
            "[::1]evil.example",
            "[::1]11480",
            "[::1]1:11480",
            "localhost:http",
            "evil.example@localhost",
            "",
        ] {
            assert_eq!(check(foreign), Err(Refused::ForeignName), "{foreign}");
        }
        let two = headers(&[(HOST, "localhost"), (HOST, "evil.example")]);
        assert_eq!(guard.check_name(&two), Err(Refused::ForeignName));
        assert_eq!(guard.check_name(&headers(&[])), Err(Refused::ForeignName));
    }

    #[test]
    fn a_name_and_a_password_are_those_of_the_basic_scheme() {
        let both = |name: &[u8], password: &[u8]| Some((name.to_vec(), password.to_vec()));
        let said = name_and_password;
        assert_eq!(said(b"Basic YTpi"), both(b"a", b"b"));
        assert_eq!(said(b"basic  YTpiOmM= "), both(b"a", b"b:c"));
        assert_eq!(said(b"Basic Og=="), both(b"", b""));
        for bad in [
            "",
            "Basic",
            "Basic ",
            "Basic YQ==",
            "Basic !",
            "Bearer YTpi",
        ] {
            assert_eq!(said(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_request_that_acts_comes_from_our_page_or_from_none() {
        let host = [(HOST, "localhost:11480")];
        let ours: [&[_]; 4] = [
            &[],
            &[
                (SEC_FETCH_SITE, "same-origin"),
                (ORIGIN, "https://behind.a.proxy"),
            ],
            &[(SEC_FETCH_SITE, "none")],
            &[(ORIGIN, "http://localhost:11480")],
        ];
        for lines in ours {
            let lines = headers(&[&host, lines].concat());
            assert_eq!(check_origin(&lines), Ok(()), "{lines:?}");
        }
        let foreign: [&[_]; 6] = [
            &[(SEC_FETCH_SITE, "cross-site")],
            &[
                (SEC_FETCH_SITE, "same-site"),
                (ORIGIN, "http://localhost:11480"),
            ],
            &[(ORIGIN, "http://evil.example")],
            &[(ORIGIN, "http://localhost:8080")],
            &[(ORIGIN, "null")],
            &[(ORIGIN, "")],
        ];
        for lines in foreign {
            let lines = headers(&[&host, lines].concat());
            assert_eq!(
                check_origin(&lines),
                Err(Refused::ForeignOrigin),
                "{lines:?}"
            );
        }
    }
}
