//! Machines that are network namespaces on one bridge, and what goes wrong between them.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// How many machines there are.
pub const MACHINES: usize = 3;

/// All that is made here is called so, with the test's process id behind it.
const NAME: &str = "elk";

static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// A bridge with machines on it, at which the test's own process is, too. Gone with all processes on them when
/// dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    subnet: String,
}

impl Network {
    /// # Errors
    ///
    /// Why there can be none here.
    pub fn new() -> Result<Self, String> {
        sweep();
        let process = std::process::id();
        let number = NETWORKS.fetch_add(1, Ordering::SeqCst);
        let place = process.wrapping_add(number);
        let network = Self {
            name: format!("{NAME}{process}x{number}"),
            subnet: format!("10.{}.{}", 64 + place % 128, place / 128 % 256),
        };
        let (name, subnet) = (&network.name, &network.subnet);
        shell(&format!(
            "ip link add {name}b type bridge && ip addr add {subnet}.1/24 dev {name}b && ip link set {name}b up"
        ))?;
        for machine in 0..MACHINES {
            let (namespace, address) = (network.namespace(machine), network.address(machine));
            shell(&format!(
                "set -e
                ip netns add {namespace}
                ip link add {name}v{machine} type veth peer name eth0 netns {namespace}
                ip link set {name}v{machine} master {name}b up
                ip -n {namespace} addr add {address}/24 dev eth0
                ip -n {namespace} link set eth0 up
                ip -n {namespace} link set lo up
                ip netns exec {namespace} iptables -S >&2"
            ))?;
        }
        Ok(network)
    }

    fn namespace(&self, machine: usize) -> String {
        format!("{}m{machine}", self.name)
    }

    /// A machine's address.
    pub fn address(&self, machine: usize) -> String {
        format!("{}.{}", self.subnet, 11 + machine)
    }

    /// A command to be run on a machine; as a process, it takes the place of `ip`.
    pub fn command(&self, machine: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        let namespace = self.namespace(machine);
        command.args(["netns", "exec", &namespace, program]);
        command.stdin(Stdio::null());
        command
    }

    /// Has a machine drop what its firewall's rules say, until [`Cut::heal`].
    pub fn cut(&self, machine: usize, rules: &[String]) -> Cut {
        let cut = Cut {
            namespace: self.namespace(machine),
            rules: rules.to_vec(),
        };
        cut.change("-I");
        cut
    }

    /// Has a machine lose packets and send slowly, until [`Cut::heal`].
    pub fn slow_down(&self, machine: usize) -> Cut {
        let device = format!("{}v{machine}", self.name);
        must(&format!(
            "tc qdisc add dev {device} root tbf rate 2mbit burst 3kb latency 300ms
            ip netns exec {} tc qdisc add dev eth0 root tbf rate 2mbit burst 3kb latency 300ms",
            self.namespace(machine)
        ));
        let losses = ["INPUT", "OUTPUT"].map(|chain| {
            format!("{chain} ! -i lo -m statistic --mode random --probability 0.05")
                .replace("OUTPUT ! -i", "OUTPUT ! -o")
        });
        self.cut(machine, &losses)
    }

    /// The end of [`Network::slow_down`].
    pub fn speed_up(&self, machine: usize) {
        let device = format!("{}v{machine}", self.name);
        must(&format!(
            "tc qdisc del dev {device} root
            ip netns exec {} tc qdisc del dev eth0 root",
            self.namespace(machine)
        ));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Rules of a machine's firewall.
#[derive(Debug)]
pub struct Cut {
    namespace: String,
    rules: Vec<String>,
}

impl Cut {
    pub fn heal(self) {
        self.change("-D");
    }

    fn change(&self, how: &str) {
        let namespace = &self.namespace;
        let rules = self.rules.iter();
        let lines = rules.map(|rule| format!("iptables -w {how} {rule} -j DROP"));
        let lines = lines.collect::<Vec<_>>().join(" && ");
        must(&format!("ip netns exec {namespace} sh -c '{lines}'"));
    }
}

/// Removes what test processes have left that were killed.
fn sweep() {
    let named = shell("ip -o link show type bridge | sed 's/^[0-9]*: //; s/:.*//'");
    for bridge in named.unwrap_or_default().lines() {
        let Some(name) = bridge.strip_suffix('b') else {
            continue;
        };
        let process = name
            .strip_prefix(NAME)
            .and_then(|rest| rest.split('x').next());
        let process = process.and_then(|process| process.parse::<u32>().ok());
        let is_gone = |process| !std::path::Path::new(&format!("/proc/{process}")).exists();
        if process.is_some_and(is_gone) {
            remove(name);
        }
    }
}

fn remove(name: &str) {
    for machine in 0..MACHINES {
        let namespace = format!("{name}m{machine}");
        let _ = shell(&format!(
            "for process in $(ip netns pids {namespace}); do kill -KILL $process; done
            ip link del {name}v{machine}
            ip netns del {namespace}"
        ));
    }
    let _ = shell(&format!("ip link del {name}b"));
}

/// What these lines write to the standard output.
///
/// # Errors
///
/// What they write beside that, if they fail.
pub fn shell(lines: &str) -> Result<String, String> {
    let run = Command::new("sh")
        .args(["-c", lines])
        .stdin(Stdio::null())
        .output();
    let run = run.map_err(|why| why.to_string())?;
    match run.status.success() {
        true => Ok(String::from_utf8_lossy(&run.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&run.stderr).trim().to_owned()),
    }
}

fn must(lines: &str) {
    if let Err(why) = shell(lines) {
        panic!("{lines}: {why}");
    }
}

/// Sends a signal to a process of the test's own that it has not waited for yet.
pub fn signal(child: &Child, name: &str) {
    must(&format!("kill -{name} {}", child.id()));
}
