//! What was measured, and on what.

use std::process::Command;

/// The commit of the working directory, with `-dirty` when it has changes; `unknown` outside a repository.
#[must_use]
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    if dirty { format!("{commit}-dirty") } else { commit }
}

/// Kernel, processor and number of cores.
#[must_use]
pub(crate) fn describe() -> String {
    let system = rustix::system::uname();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    format!(
        "{} {}, {}, {cores} cores",
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        model.unwrap_or("unknown processor")
    )
}
