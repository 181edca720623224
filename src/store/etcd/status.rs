//! What the nodes of etcd say of themselves, for the log: nothing here decides anything.

use std::time::Duration;

use tracing::{error, info, warn};

use super::api::{StatusRequest, StatusResponse};
use super::endpoints::{Access, Endpoints};
use super::txn::Failure;

/// How soon a node is asked again that has not answered, at first and at the most.
const AGAIN: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Asks every node how it is until it has told, and logs what an operator should know. Takes almost a second for a
/// node that does not answer, so nothing should wait for it.
pub(crate) async fn look_at_etcd(access: &Access) {
    let mut silent: Vec<&str> = Vec::new();
    for url in &access.urls {
        match ask(access, url).await {
            Ok(status) => tell(url, &status),
            Err(why) => {
                warn!("etcd at {url} does not say how it is: {why}");
                if let Failure::InDoubt(_) = why {
                    silent.push(url);
                }
            }
        }
    }
    let mut pause = AGAIN;
    while !silent.is_empty() {
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
        for url in std::mem::take(&mut silent) {
            match ask(access, url).await {
                Ok(status) => tell(url, &status),
                Err(Failure::InDoubt(_)) => silent.push(url),
                Err(why) => warn!("etcd at {url} does not say how it is: {why}"),
            }
        }
    }
}

/// By a connection of its own, as the others choose their nodes by who answers.
async fn ask(access: &Access, url: &str) -> Result<StatusResponse, Failure> {
    let alone = Access {
        urls: vec![url.to_owned()],
        ..access.clone()
    };
    let unusable = |why| Failure::Refused(format!("{why}"));
    let mut node = Endpoints::new(&alone, 0).map_err(unusable)?;
    node.unary(StatusRequest {}).await
}

fn tell(url: &str, status: &StatusResponse) {
    let (version, bytes) = (&status.version, status.db_size);
    info!(
        version,
        bytes,
        in_use = status.db_size_in_use,
        "etcd at {url}"
    );
    if let Some(trouble) = Version::read(version).and_then(Version::trouble) {
        warn!("etcd {version} at {url} {trouble}; 3.6, 3.5.23 or 3.4.38 do not");
    }
    for why in &status.errors {
        error!("etcd at {url} says: {}", explained(why));
    }
}

/// A trouble as etcd tells it, and what to do about the one that operators meet.
fn explained(why: &str) -> String {
    let why = why.trim();
    match why.contains("NOSPACE") {
        true => format!(
            "{why}. Its database has reached its quota, and takes no lock and no release: \
             `etcdctl compact REVISION`, a moment later `etcdctl defrag`, then `etcdctl alarm disarm`"
        ),
        false => why.to_owned(),
    }
}

/// The version of a node: major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

impl Version {
    /// `None` if it is of another form than those that there have been.
    fn read(text: &str) -> Option<Self> {
        let core = text.split(['-', '+']).next()?;
        let mut numbers = core.split('.').map(|number| number.parse().ok());
        let version = Self(numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(version)
    }

    /// What it does that newer ones do not.
    fn trouble(self) -> Option<&'static str> {
        match self {
            Self(3, 5, 0..=2) => Some("may have other data on each node after a crash"),
            Self(3, 5, 3..=22) | Self(3, 4, 0..=37) | Self(3, 0..=3, _) | Self(0..=2, _, _) => {
                Some(
                    "may end the leader's lease although it is renewed, so that another leads without need",
                )
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::real_etcd::RealEtcd;
    use crate::store::etcd::create_if_absent;

    #[test]
    fn versions_with_the_leases_that_end_are_known() {
        let has_trouble = |text| Version::read(text).and_then(Version::trouble).is_some();
        for old in ["3.4.23", "3.4.37", "3.5.0", "3.5.22", "3.3.99", "2.3.8"] {
            assert!(has_trouble(old), "{old}");
        }
        for good in ["3.4.38", "3.5.23", "3.6.0-rc.1", "3.7.0+git", "4.0.0"] {
            assert!(!has_trouble(good), "{good}");
        }
        for unknown in ["", "3.4", "3.4.x", "3.4.1.2"] {
            assert_eq!(Version::read(unknown), None, "{unknown}");
        }
    }

    #[tokio::test]
    async fn a_node_tells_its_version_and_that_it_is_full() {
        let Some(etcd) = RealEtcd::start_with("http", &["--quota-backend-bytes=1".to_owned()])
        else {
            return;
        };
        let url = &etcd.access.urls[0];
        let status = ask(&etcd.access, url).await.expect("it answers");
        assert!(Version::read(&status.version).is_some(), "{status:?}");
        assert!(status.db_size > 0 && status.errors.is_empty(), "{status:?}");
        let mut nodes = Endpoints::new(&etcd.access, 0).expect("a URL");
        let put = create_if_absent(b"/elock/x".to_vec(), bytes::Bytes::new(), 0);
        let refused = nodes.unary(put).await;
        assert!(matches!(refused, Err(Failure::Refused(_))), "{refused:?}");
        let status = ask(&etcd.access, url).await.expect("it answers");
        let [why] = &status.errors[..] else {
            panic!("{status:?}");
        };
        assert!(explained(why).contains("alarm disarm"), "{why}");
    }

    #[tokio::test]
    async fn a_node_that_does_not_answer_is_asked_until_it_does() {
        let Some(etcd) = RealEtcd::start() else {
            return;
        };
        etcd.signal("STOP");
        let mut looked = std::pin::pin!(look_at_etcd(&etcd.access));
        let silence = async {
            for _ in 0..3 {
                let told = ask(&etcd.access, &etcd.access.urls[0]).await;
                told.expect_err("it stands still");
            }
        };
        tokio::select! {
            () = &mut looked => panic!("it has told nothing"),
            () = silence => {}
        }
        etcd.signal("CONT");
        let soon = std::time::Duration::from_secs(60);
        let looked = tokio::time::timeout(soon, looked).await;
        looked.expect("it tells");
    }
}
