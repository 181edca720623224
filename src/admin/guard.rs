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

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Admin;
use crate::config::{Address, Config};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What the two layers know.
#[derive(Debug)]
pub(super) struct Guard {
    /// The names that the operator has the listeners open.
    names: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// The request's `Host` is a name that may be a stranger's.
    #[error(
        "without a password this server answers only to localhost, to IP addresses and to the names in \
         --admin"
    )]
    ForeignName,
    /// A page of another server sends the request.
    #[error("requests that act must not come from another server's page")]
    ForeignOrigin,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (StatusCode::FORBIDDEN, format!("{self}\n")).into_response()
    }
}

/// The layer before everything that shows something.
pub(super) async fn may_read(
    State(admin): State<Admin>,
    request: Request,
    next: Next,
) -> Result<Response, Refused> {
    admin.guard.check_name(request.headers())?;
    Ok(next.run(request).await)
}

/// The layer before everything that changes something.
pub(super) async fn may_act(
    State(admin): State<Admin>,
    request: Request,
    next: Next,
) -> Result<Response, Refused> {
    admin.guard.check_name(request.headers())?;
    check_origin(request.headers())?;
    Ok(next.run(request).await)
}

impl Guard {
    pub(super) fn new(config: &Config) -> Self {
        let names = config.admin.iter().filter_map(|address| match address {
            Address::Tcp(address) => Some(address.rsplit_once(':')?.0.to_owned()),
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

    /// Whether no name server of a stranger's can have a browser come here by this name.
    fn is_our_name(&self, authority: &Authority) -> bool {
        let host = authority.host();
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
    use super::*;

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
            "",
        ] {
            assert_eq!(check(foreign), Err(Refused::ForeignName), "{foreign}");
        }
        let two = headers(&[(HOST, "localhost"), (HOST, "evil.example")]);
        assert_eq!(guard.check_name(&two), Err(Refused::ForeignName));
        assert_eq!(guard.check_name(&headers(&[])), Err(Refused::ForeignName));
    }

    #[test]
    fn a_request_that_acts_comes_from_our_page_or_from_none() {
        let host = (HOST, "localhost:11480");
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
            let lines = headers(&[&[host.clone()], lines].concat());
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
            let lines = headers(&[&[host.clone()], lines].concat());
            assert_eq!(
                check_origin(&lines),
                Err(Refused::ForeignOrigin),
                "{lines:?}"
            );
        }
    }
}
