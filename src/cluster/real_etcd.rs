//! A node of etcd for tests, where etcd is installed.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::store::etcd::{Access, Endpoints, Failure, Names, RangeRequest, RangeResponse};

/// A cluster of one node, which ends when this is dropped.
pub(crate) struct RealEtcd {
    child: Child,
    pub(crate) access: Access,
    _directory: tempfile::TempDir,
}

impl RealEtcd {
    /// `None` where it is not installed, which the test's output says.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("http", &[])
    }

    /// With these flags beside those that every one has.
    pub(crate) fn start_with(scheme: &str, flags: &[String]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let client = format!("{scheme}://{}", free_address());
        let peer = format!("http://{}", free_address());
        let child = Command::new("etcd")
            .args(["--name=only", "--log-level=error", "--unsafe-no-fsync"])
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=only={peer}"))
            .arg("--data-dir")
            .arg(directory.path())
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            let required = std::env::var_os("EVERY_CLUSTER_TEST").is_some();
            assert!(!required, "etcd is not installed");
            println!("skipped, as etcd is not installed");
            return None;
        };
        let access = Access {
            urls: vec![client],
            ..Access::default()
        };
        Some(Self {
            child,
            access,
            _directory: directory,
        })
    }

    /// Has it ask who everybody is, and lets in this user, who may use what is below `/elock/`.
    pub(crate) fn ask_for_users(&self, name: &str, password: &str) {
        let user = format!("{name}:{password}");
        self.control(&["user", "add", "root:root"]);
        self.control(&["user", "grant-role", "root", "root"]);
        self.control(&["role", "add", "elock"]);
        let may = ["role", "grant-permission", "elock", "--prefix=true"];
        self.control(&[&may[..], &["readwrite", "/elock/"]].concat());
        self.control(&["user", "add", &user]);
        self.control(&["user", "grant-role", name, "elock"]);
        self.control(&["auth", "enable"]);
    }

    /// Sets the password of a user, whose tokens are over with it.
    pub(crate) fn set_password(&self, name: &str, password: &str) {
        let passwd = ["--user=root:root", "user", "passwd", "--interactive=false"];
        let command = format!(
            "printf '%s\\n' \"$PASSWORD\" | etcdctl --endpoints={} {} {name}",
            self.access.urls[0],
            passwd.join(" ")
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).env("PASSWORD", password);
        succeed(&mut shell);
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        self.control(&["put", key, value]);
    }

    pub(crate) fn delete(&self, key: &str) {
        self.control(&["del", key]);
    }

    /// The value of a key; nothing if it is not there.
    pub(crate) fn get(&self, key: &str) -> String {
        self.control(&["get", "--print-value-only", key])
    }

    fn control(&self, arguments: &[&str]) -> String {
        let mut etcdctl = Command::new("etcdctl");
        etcdctl.arg(format!("--endpoints={}", self.access.urls[0]));
        succeed(etcdctl.args(arguments))
    }
}

fn succeed(command: &mut Command) -> String {
    let output = command.env("ETCDCTL_API", "3").output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Asks until etcd has started.
pub(crate) async fn ask_patiently(nodes: &mut Endpoints) {
    let give_up = Instant::now() + Duration::from_secs(30);
    while let Err(why) = ask(nodes).await {
        assert!(Instant::now() < give_up, "{why}");
    }
}

/// Free a moment ago.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}
