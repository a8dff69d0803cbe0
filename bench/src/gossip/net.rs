//! A network of its own for a run: only what is measured is counted, and what is cut is cut for nobody else.

use std::fs;
use std::io;
use std::process::{Command, ExitStatus, Stdio};

use super::Error;

/// Set in the process that runs inside.
const INSIDE: &str = "CODECO_BENCH_NETWORK";

/// Runs this very command again in a network namespace of its own. `None` if this already is that run.
pub(super) fn enter() -> Result<Option<ExitStatus>, Error> {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"])?;
        return Ok(None);
    }
    let own = std::env::current_exe()?;
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .map_err(|e| format!("cannot run unshare (util-linux): {e}"))?;
    Ok(Some(status))
}

/// What must be there, or what is missing; serf only unless ours is measured `alone`.
pub(super) fn require(alone: bool) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err("this benchmark makes a network namespace: run it as root".into());
    }
    for (program, argument, package) in [
        ("unshare", "--version", "util-linux"),
        ("ip", "-V", "iproute2"),
        ("nft", "--version", "nftables"),
        ("serf", "version", "serf"),
    ] {
        if alone && program == "serf" {
            continue;
        }
        let there = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if there.is_err() {
            return Err(format!("{program} is missing: apt-get install {package}").into());
        }
    }
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), Error> {
    let output = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), said.trim()).into())
}

/// Mark of a packet that is to be lost.
const LOST: u32 = 7;

/// Loses packets until this is dropped.
pub(super) struct Broken;

impl Broken {
    /// `rules` match packets as they leave a process. Each is then lost on its way: a sender whose packet is dropped at
    /// once gets an error, which is no loss as a network has it.
    pub(super) fn by(rules: &[String]) -> Result<Self, Error> {
        let marks: Vec<String> = rules.iter().map(|rule| format!("{rule} meta mark set {LOST}")).collect();
        let table = format!(
            "table inet bench {{\n chain out {{\n  type filter hook output priority 0;\n  {}\n }}\n chain in \
             {{\n  type filter hook input priority 0;\n  meta mark {LOST} drop\n }}\n}}\n",
            marks.join("\n  ")
        );
        let mut nft =
            Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = nft.stdin.take() {
            io::Write::write_all(&mut stdin, table.as_bytes())?;
        }
        let output = nft.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
        }
        Ok(Self)
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        if let Err(error) = run("nft", &["delete", "table", "inet", "bench"]) {
            eprintln!("codeco-bench: {error}");
        }
    }
}

/// Bytes sent over this network so far, headers included.
pub(super) fn bytes_sent() -> Result<u64, Error> {
    let text = fs::read_to_string("/proc/net/dev")?;
    let lo = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let sent = lo.and_then(|columns| columns.split_whitespace().nth(8)).and_then(|word| word.parse().ok());
    sent.ok_or_else(|| "/proc/net/dev does not list lo".into())
}

/// Parts of a second in which Linux tells processor time to programs, on every machine this runs on (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used: processor time in seconds, resident memory in MiB.
pub(super) fn usage(pid: u32) -> Result<(f64, f64), Error> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold spaces and brackets: columns are counted from behind the last bracket.
    let columns: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| columns.get(at).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    let kibibytes: f64 = resident.and_then(|word| word.parse().ok()).unwrap_or(0.0);
    Ok(((ticks(11) + ticks(12)) / TICKS_PER_SECOND, kibibytes / 1_024.0))
}
