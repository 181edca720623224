//! A real Chromium, driven through its driver by the WebDriver protocol.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::PATIENCE;
use super::http::{request, try_request};

pub const ENTER: &str = "\u{e007}";
pub const ESCAPE: &str = "\u{e00c}";
pub const TAB: &str = "\u{e004}";

/// A window of a browser. Ends with its browser and driver when dropped.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: TempDir,
}

/// What Chromium is told: to ask nobody but who it is sent to, and to run where there is no screen.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

impl Browser {
    /// `None`, with a word about it, if this machine has no Chromium with its driver. With
    /// `EVERY_BROWSER_TEST` set, it must have.
    pub fn start(test: &str) -> Option<Self> {
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut driver) = driver else {
            let is_needed = std::env::var_os("EVERY_BROWSER_TEST").is_some();
            assert!(!is_needed, "chromedriver is not installed");
            // Written past the test harness, which would show it only if the test failed.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED {test}: chromedriver is not installed"
            );
            return None;
        };
        let output = BufReader::new(driver.stdout.take().expect("piped"));
        let port = output.lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let port: u16 = port.expect("chromedriver says its port");
        let profile = tempfile::tempdir().expect("a directory");
        let mut browser = Self {
            driver,
            address: ([127, 0, 0, 1], port).into(),
            session: String::new(),
            _profile: profile,
        };
        browser.open();
        Some(browser)
    }

    fn open(&mut self) {
        let profile = format!("--user-data-dir={}", self._profile.path().display());
        let flags: Vec<&str> = FLAGS.into_iter().chain([profile.as_str()]).collect();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": flags},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let opened = self.ask("POST", "/session", &wanted);
        let session = opened["sessionId"].as_str().expect("a session");
        self.session = session.to_owned();
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = match method {
            "POST" => body.to_string(),
            _ => String::new(),
        };
        let json = ["Content-Type: application/json"];
        let answer = request(self.address, method, path, &json, &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let mut answer: Value = serde_json::from_str(&answer.body).expect("JSON");
        answer["value"].take()
    }

    #[track_caller]
    fn order(&self, what: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}{what}", self.session), body)
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        let body = json!({"cmd": command, "params": parameters});
        self.order("/goog/cdp/execute", &body);
    }

    pub fn go(&self, address: &str) {
        self.order("/url", &json!({"url": address}));
    }

    /// The window's inner size, in pixels.
    pub fn resize(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// `light` or `dark`, as the system would say.
    pub fn prefer(&self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({"features": [feature]}),
        );
    }

    /// The value of a script's `return`, in the page.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.order("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until an expression in the page is true.
    #[track_caller]
    pub fn until(&self, expression: &str) {
        let begin = Instant::now();
        let script = format!("return Boolean({expression})");
        while self.run(&script) != json!(true) {
            let page = self.run("return document.body.innerText");
            assert!(begin.elapsed() < PATIENCE, "never {expression}: {page}");
        }
    }

    /// Presses and lets go, one after the other.
    pub fn press(&self, keys: &[&str]) {
        let each = keys
            .iter()
            .flat_map(|key| ["keyDown", "keyUp"].map(|what| json!({"type": what, "value": key})));
        let each: Vec<Value> = each.collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": each}]});
        self.order("/actions", &actions);
    }

    /// What the console said since the last call: errors of scripts, and what the page's policy forbade.
    pub fn console(&self) -> Vec<String> {
        let log = self.order("/se/log", &json!({"type": "browser"}));
        let lines = log.as_array().expect("a list");
        lines
            .iter()
            .map(|line| line["message"].to_string())
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser when it is asked to; without that, killing it leaves the browser.
        let session = format!("/session/{}", self.session);
        let _ = try_request(self.address, "DELETE", &session, &[], "");
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
