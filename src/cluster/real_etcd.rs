//! A node of etcd for tests, where etcd is installed.

use std::process::Command;
use std::time::{Duration, Instant};

use super::one_etcd::{OneEtcd, succeed};
use crate::store::etcd::{Access, Endpoints, Failure, Names, RangeRequest, RangeResponse};

/// A cluster of one node that has started, which ends when this is dropped.
pub(crate) struct RealEtcd {
    etcd: OneEtcd,
    pub(crate) access: Access,
}

impl RealEtcd {
    /// `None` where it is not installed, which the test's output says.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("http", &[])
    }

    /// With these flags beside those that every one has.
    pub(crate) fn start_with(scheme: &str, flags: &[String]) -> Option<Self> {
        let etcd = OneEtcd::start(scheme, flags)?;
        let access = Access {
            urls: vec![etcd.url.clone()],
            ..Access::default()
        };
        Some(Self { etcd, access })
    }

    /// Has it ask who everybody is, and lets in this user, who may use what is below `/elock/`.
    pub(crate) fn ask_for_users(&self, name: &str, password: &str) {
        let user = format!("{name}:{password}");
        self.etcd.control(&["user", "add", "root:root"]);
        self.etcd.control(&["user", "grant-role", "root", "root"]);
        self.etcd.control(&["role", "add", "elock"]);
        let may = ["role", "grant-permission", "elock", "--prefix=true"];
        self.etcd
            .control(&[&may[..], &["readwrite", "/elock/"]].concat());
        self.etcd.control(&["user", "add", &user]);
        self.etcd.control(&["user", "grant-role", name, "elock"]);
        self.etcd.control(&["auth", "enable"]);
    }

    /// Sets the password of a user, whose tokens are over with it.
    pub(crate) fn set_password(&self, name: &str, password: &str) {
        let passwd = ["--user=root:root", "user", "passwd", "--interactive=false"];
        let command = format!(
            "printf '%s\\n' \"$PASSWORD\" | etcdctl --endpoints={} {} {name}",
            self.etcd.url,
            passwd.join(" ")
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).env("PASSWORD", password);
        succeed(&mut shell);
    }

    pub(crate) fn signal(&self, name: &str) {
        self.etcd.signal(name);
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        self.etcd.control(&["put", key, value]);
    }

    pub(crate) fn delete(&self, key: &str) {
        self.etcd.control(&["del", key]);
    }

    /// The value of a key; nothing if it is not there.
    pub(crate) fn get(&self, key: &str) -> String {
        self.etcd.control(&["get", "--print-value-only", key])
    }
}

/// Asks a question that every user may ask, until etcd has decided: to check a password may take it longer than
/// an attempt has, on a busy machine.
pub(crate) async fn ask_until_decided(nodes: &mut Endpoints) -> Result<RangeResponse, Failure> {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        match ask(nodes).await {
            Err(Failure::InDoubt(_)) if Instant::now() < give_up => {}
            decided => return decided,
        }
    }
}

/// A question that every user may ask.
pub(crate) async fn ask(nodes: &mut Endpoints) -> Result<RangeResponse, Failure> {
    let request = RangeRequest {
        key: Names::below("/elock").leader(),
        ..RangeRequest::default()
    };
    nodes.unary(request).await
}
