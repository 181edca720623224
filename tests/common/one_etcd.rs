//! A node of etcd, for the tests of this directory and for those in `src`.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is tried: somebody else may take a port that was free.
const ATTEMPTS: u32 = 5;

/// What it logs once it answers, in each of its versions, if it is told to log so.
const READY: &str = "serving client traffic";

/// A cluster of one node, which ends when this is dropped.
pub(crate) struct OneEtcd {
    child: Child,
    /// Where clients ask it.
    pub(crate) url: String,
    _directory: tempfile::TempDir,
}

impl OneEtcd {
    /// One that answers, with these flags beside those that every one has. `None` where it is not installed, which
    /// the test's output says.
    pub(crate) fn start(scheme: &str, flags: &[String]) -> Option<Self> {
        let mut last_words = String::new();
        for _ in 0..ATTEMPTS {
            let Some(mut etcd) = Self::spawn(scheme, flags) else {
                skip("etcd is not installed");
                return None;
            };
            match etcd.readiness().recv_timeout(PATIENCE) {
                Ok(Ok(())) => return Some(etcd),
                Ok(Err(last)) => last_words = last,
                Err(_) => panic!("etcd does not start"),
            }
        }
        panic!("etcd has ended {ATTEMPTS} times: {last_words}")
    }

    fn spawn(scheme: &str, flags: &[String]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("{scheme}://{}", free_address());
        let peer = format!("http://{}", free_address());
        let child = Command::new("etcd")
            .args(["--name=only", "--unsafe-no-fsync"])
            .args(["--logger=zap", "--log-level=info", "--log-outputs=stderr"])
            .arg(format!("--listen-client-urls={url}"))
            .arg(format!("--advertise-client-urls={url}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=only={peer}"))
            .arg("--data-dir")
            .arg(directory.path())
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        Some(Self {
            child,
            url,
            _directory: directory,
        })
    }

    /// Tells that it answers, or what it has logged last when it ends. The log is read to its end, as etcd would
    /// stand still otherwise.
    fn readiness(&mut self) -> Receiver<Result<(), String>> {
        let log = BufReader::new(self.child.stderr.take().expect("piped"));
        let (tells, told) = channel();
        std::thread::spawn(move || {
            let mut last = String::new();
            for line in log.lines().map_while(Result::ok) {
                if line.contains(READY) {
                    let _ = tells.send(Ok(()));
                }
                if !line.is_empty() {
                    last = line;
                }
            }
            // Nobody listens any more if it has answered before.
            let _ = tells.send(Err(last));
        });
        told
    }

    /// Has etcd's own program do something; what that writes.
    #[track_caller]
    pub(crate) fn control(&self, arguments: &[&str]) -> String {
        let mut etcdctl = Command::new("etcdctl");
        etcdctl.arg(format!("--endpoints={}", self.url));
        succeed(etcdctl.args(arguments))
    }
}

/// Runs etcd's own program; what that writes.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.env("ETCDCTL_API", "3").output();
    let output = output.expect("etcd-client is installed");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl OneEtcd {
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        succeed(Command::new("kill").args(["-s", name, &pid]));
    }
}

impl Drop for OneEtcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says that a test of a cluster is skipped; where none may be, it fails.
#[track_caller]
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("EVERY_CLUSTER_TEST").is_none(), "{why}");
    println!("skipped: {why}");
}

/// Free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}
