//! The tools of the system that make networks, and what is missing where they cannot.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Trouble;
use crate::fleet::kill;

/// Every namespace and mount of a lab is called `codeco-lab-PID-…`, PID being the process that made it.
pub(super) const PREFIX: &str = "codeco-lab-";

fn told(command: &str, output: std::io::Result<Output>) -> Result<String, Trouble> {
    let failed = |said: String| Trouble::Tool { command: command.to_owned(), said };
    let output = output.map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
}

/// Runs a line of words.
pub(super) fn run(line: &str) -> Result<String, Trouble> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    told(line, command.args(words).stdin(Stdio::null()).output())
}

/// Runs `ip` with these words.
pub(super) fn ip(line: &str) -> Result<String, Trouble> {
    run(&format!("ip {line}"))
}

/// Runs a shell script in a namespace.
pub(super) fn script(space: &str, text: &str) -> Result<String, Trouble> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space, "sh", "-c", text]).stdin(Stdio::null());
    told(text, command.output())
}

/// Loads nft rules into a namespace.
pub(super) fn load(space: &str, rules: &str) -> Result<(), Trouble> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space, "nft", "-f", "-"]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let fed = command.spawn().and_then(|mut child| {
        // Both ends of its life are the tool's: one that has ended early says why.
        let _ = child.stdin.take().map(|mut input| input.write_all(rules.as_bytes()));
        child.wait_with_output()
    });
    told(&format!("nft -f - with {rules}"), fed).map(drop)
}

/// This thread is in a namespace; with this it goes back to where it was. What it starts there stays there.
#[derive(Debug)]
pub(super) struct Entered {
    back: File,
}

impl Entered {
    pub(super) fn new(space: &str) -> Result<Self, Trouble> {
        let open = |path: &Path| File::open(path).map_err(Trouble::file(path));
        let back = open(Path::new("/proc/thread-self/ns/net"))?;
        go(&open(&Path::new("/run/netns").join(space))?)
            .map_err(|e| Trouble::Tool { command: format!("entering {space}"), said: e.to_string() })?;
        Ok(Self { back })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let _ = go(&self.back);
    }
}

fn go(space: &File) -> rustix::io::Result<()> {
    move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
}

/// What a lab needs and is missing here, if anything. Looked at once, after what dead runs have left is cleaned up.
pub fn missing() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING.get_or_init(look).clone()
}

fn look() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".into());
    }
    for (tool, question, package) in [
        ("ip", "-V", "iproute2"),
        ("tc", "-V", "iproute2"),
        ("nft", "-v", "nftables"),
        ("mount", "-V", "mount"),
    ] {
        if run(&format!("{tool} {question}")).is_err() {
            return Some(format!("{tool} is missing: apt-get install {package}"));
        }
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("/dev/net/tun is missing: this kernel, or this container, has no TUN devices".into());
    }
    clean();
    let space = format!("{PREFIX}{}-try", std::process::id());
    let tried = try_out(&space);
    let _ = ip(&format!("netns delete {space}"));
    tried.err().map(|trouble| trouble.to_string())
}

/// Does once what labs do.
fn try_out(space: &str) -> Result<(), Trouble> {
    ip(&format!("netns add {space}"))?;
    ip(&format!("-n {space} link add name lab type bridge"))?;
    ip(&format!("-n {space} link add left type veth peer name right"))?;
    run(&format!("tc -n {space} qdisc add dev left root tbf rate 1mbit burst 16kb latency 50ms"))?;
    load(space, &forward_table("try", "ip saddr 10.0.0.1 numgen random mod 100 < 10 counter drop\n"))?;
    load(
        space,
        "table inet try {\nchain post {\ntype nat hook postrouting priority srcnat\nmasquerade\n}\n}\n",
    )
}

/// A table of rules for what a bridge passes on.
pub(super) fn forward_table(name: &str, rules: &str) -> String {
    format!(
        "table bridge {name} {{\nchain forward {{\ntype filter hook forward priority 0; policy accept;\n{rules}}}\n}}\n"
    )
}

/// Removes what runs that are dead have left: their processes, namespaces and mounts. The first lab of this process
/// is not made yet, so what bears its own number is left over as well.
fn clean() {
    let is_dead = |name: &str| {
        let number = name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok()?;
        (number == std::process::id() || !Path::new(&format!("/proc/{number}")).exists()).then_some(())
    };
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_dead(&name).is_some() {
            let inside = ip(&format!("netns pids {name}")).unwrap_or_default();
            inside.split_whitespace().filter_map(|pid| pid.parse().ok()).for_each(kill);
            let _ = ip(&format!("netns delete {name}"));
        }
    }
    for line in std::fs::read_to_string("/proc/self/mounts").unwrap_or_default().lines() {
        if let Some((source, rest)) = line.split_once(' ')
            && is_dead(source).is_some()
        {
            let _ = run(&format!("umount -l {}", rest.split(' ').next().unwrap_or_default()));
        }
    }
}
