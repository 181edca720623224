//! A node of etcd for tests, where etcd is installed.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crate::store::etcd::Access;

/// A cluster of one node, which ends when this is dropped.
pub(crate) struct RealEtcd {
    child: Child,
    pub(crate) access: Access,
    _directory: tempfile::TempDir,
}

impl RealEtcd {
    /// `None` where it is not installed, which the test's output says.
    pub(crate) fn start() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let [client, peer] =
            [free_address(), free_address()].map(|address| format!("http://{address}"));
        let child = Command::new("etcd")
            .args([
                "--name",
                "only",
                "--log-level",
                "error",
                "--unsafe-no-fsync",
            ])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("only={peer}")])
            .arg("--data-dir")
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            println!("skipped, as etcd is not installed");
            return None;
        };
        let access = Access {
            urls: vec![client],
            user: None,
        };
        Some(Self {
            child,
            access,
            _directory: directory,
        })
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Free a moment ago.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}
