//! What the process table says.

use std::fs;
use std::path::Path;

/// A process of a workload, as its environment tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkloadProcess {
    /// Mark of the guard that started it.
    pub guard: String,
    /// `APP-UID/SERVICE-INDEX`.
    pub replica: String,
    /// Fencing token.
    pub token: String,
    /// Process group: that of the container's first process.
    pub group: u32,
    /// Process id.
    pub pid: u32,
    /// When it was started, in ticks since boot: tells it from a later process with the same id.
    pub started: u64,
}

/// Every workload process on this machine whose guard's mark is `ours`. A look is not atomic: what it finds was
/// there at some moment of it, not all at the same one.
pub fn workloads(ours: impl Fn(&str) -> bool) -> Vec<WorkloadProcess> {
    pids().filter_map(read).filter(|process| ours(&process.guard)).collect()
}

/// Whether this very process still runs.
#[must_use]
pub fn is_alive(process: &WorkloadProcess) -> bool {
    read(process.pid).is_some_and(|now| now == *process)
}

/// Whether it has been stopped (SIGSTOP), and so executes nothing until it is continued.
#[must_use]
pub fn is_stopped(process: &WorkloadProcess) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with('T'))
}

/// Processes with `text` in their command line: hub, agents and guards of a fleet carry its folder there.
#[must_use]
pub fn mentioning(text: &str) -> Vec<(u32, String)> {
    let command = |pid: u32| {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
        line.contains(text).then_some((pid, line))
    };
    let own = std::process::id();
    pids().filter(|pid| *pid != own).filter_map(command).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(Path::new("/proc")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// `None` for processes of others, and for dead ones that nobody has waited for yet.
fn read(pid: u32) -> Option<WorkloadProcess> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entries = || environ.split(|byte| *byte == 0);
    let value = |name: &str| {
        let found = entries().find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        Some(String::from_utf8_lossy(found).into_owned())
    };
    let guard = value("CODECO_GUARD")?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself hold spaces and parentheses; the state is the first field after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    Some(WorkloadProcess {
        guard,
        replica: value("CODECO_REPLICA")?,
        token: value("CODECO_FENCING_TOKEN")?,
        group: fields.get(2)?.parse().ok()?,
        pid,
        started: fields.get(19)?.parse().ok()?,
    })
}
