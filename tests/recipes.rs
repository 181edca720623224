//! What README tells operators to type does what it says, word for word: each block of `sh recipe`, in an
//! empty directory. Only ports, and directories of the system, are others here.
#![cfg(all(
    feature = "admin",
    feature = "auth",
    feature = "cli",
    feature = "store",
    feature = "tls"
))]

mod common;

use std::ffi::OsString;
use std::io::BufReader;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::listening_or_refusal;
use common::process::ELOCKD;

const README: &str = include_str!("../README.md");

/// The lines of each recipe.
fn recipes() -> Vec<Vec<&'static str>> {
    let blocks = README.split("```sh recipe\n").skip(1);
    let text = |block: &'static str| block.split("```").next().expect("a first part");
    blocks.map(|block| text(block).lines().collect()).collect()
}

/// A directory in which a recipe is typed, and the server that it has started.
struct Place {
    directory: tempfile::TempDir,
    ports: [u16; 2],
    server: Option<Child>,
}

impl Place {
    /// Ports that are free, unless somebody takes them meanwhile.
    fn new() -> Self {
        let free = [(); 2].map(|()| TcpListener::bind("0.0.0.0:0").expect("a free port"));
        let port = |one: &TcpListener| one.local_addr().expect("an address").port();
        Self {
            directory: tempfile::tempdir().expect("a directory"),
            ports: [port(&free[0]), port(&free[1])],
            server: None,
        }
    }

    fn adapted(&self, line: &str) -> String {
        let system = self.directory.path().join("system");
        let [locks, admin] = self.ports.map(|port| port.to_string());
        ["/etc/", "/var/lib/"]
            .iter()
            .fold(line.to_owned(), |line, path| {
                line.replace(path, &format!("{}{path}", system.display()))
            })
            .replace("11400", &locks)
            .replace("11480", &admin)
    }

    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        let programs: PathBuf = Path::new(ELOCKD).parent().expect("a directory").into();
        let others = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(programs).chain(std::env::split_paths(&others));
        let paths: OsString = std::env::join_paths(paths).expect("no colons");
        let address = format!("127.0.0.1:{}", self.ports[0]);
        command
            .args(["-euc", &self.adapted(line)])
            .current_dir(self.directory.path())
            .env("PATH", paths)
            .env("ELOCK_SERVER", &address);
        if !line.contains("listen") {
            // In the place of the default.
            command.env("ELOCK_LISTEN", address);
        }
        command
    }

    /// False if somebody else has its port by now.
    fn starts(&mut self, line: &str) -> bool {
        let mut command = self.shell(&format!("exec {line}"));
        let mut child = command.stderr(Stdio::piped()).spawn().expect("sh runs");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        self.server = Some(child);
        let said = listening_or_refusal(&mut log);
        let is_taken = said.contains("Address already in use");
        assert!(is_taken || said.contains("listening on "), "{line}: {said}");
        // The log is read no further; the server waits for nobody who reads it.
        !is_taken
    }

    fn types(&self, line: &str) {
        let output = self.shell(line).output().expect("sh runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{line}: {said}");
        assert!(!said.contains("elock: "), "{line}: {said}");
    }

    /// False if it has to be tried again.
    fn follows(&mut self, recipe: &[&str]) -> bool {
        std::fs::create_dir_all(self.directory.path().join("system/etc")).expect("a directory");
        std::fs::create_dir_all(self.directory.path().join("system/var/lib")).expect("a directory");
        recipe
            .iter()
            .all(|line| match line.starts_with("elockd --") {
                true => self.starts(line),
                false => {
                    self.types(line);
                    true
                }
            })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

#[test]
fn readmes_recipes_do_what_they_say() {
    let recipes = recipes();
    assert!(recipes.len() >= 4, "{recipes:?}");
    for recipe in recipes {
        let lacks = |program: &str| {
            let is_used = recipe.iter().any(|line| line.contains(program));
            is_used && Command::new(program).arg("--version").output().is_err()
        };
        if lacks("openssl") || lacks("curl") {
            println!("skipped, since there is no openssl or no curl here: {recipe:?}");
            continue;
        }
        let is_done = (0..20).any(|_| Place::new().follows(&recipe));
        assert!(is_done, "no port stayed free: {recipe:?}");
    }
}
