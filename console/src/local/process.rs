//! Processes of a local fleet: their start, their readiness, their end.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::http::get;
use super::{LocalError, READY_DEADLINE, STOP_DEADLINE};

/// A process of the fleet.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) child: Child,
    /// Its end of the pipe that keeps it running.
    pub(super) _alive: Option<ChildStdin>,
}

pub(super) fn ended(process: &mut Option<Process>) -> Option<ExitStatus> {
    let status = process.as_mut()?.child.try_wait().ok()??;
    *process = None;
    Some(status)
}

/// Asks all to stop at once, and waits for each.
pub(super) fn end(processes: &mut Vec<(String, Process)>, killed: &mut Vec<String>) {
    for (_, process) in processes.iter() {
        if let Some(pid) = i32::try_from(process.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    let deadline = Instant::now() + STOP_DEADLINE;
    for (name, mut process) in processes.drain(..) {
        loop {
            match process.child.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Ok(Some(_)) => break,
                _ => {
                    let _ = process.child.kill();
                    let _ = process.child.wait();
                    killed.push(name);
                    break;
                }
            }
        }
    }
}

/// How a process ended, for people.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".into(),
    }
}

pub(super) fn wait_ready(
    name: &str,
    http: SocketAddr,
    log: &Path,
    process: Option<&mut Process>,
) -> Result<(), LocalError> {
    let deadline = Instant::now() + READY_DEADLINE;
    let mut process = process;
    loop {
        let why = match get(http, "/readyz") {
            Ok((200, _)) => return Ok(()),
            Ok((_, body)) => body.trim().to_owned(),
            Err(e) => e.to_string(),
        };
        if let Some(status) = process.as_mut().and_then(|process| process.child.try_wait().ok().flatten()) {
            let tail = tail(log);
            return Err(LocalError::Ended { name: name.into(), status, log: log.into(), tail });
        }
        if Instant::now() > deadline {
            return Err(LocalError::NotReady { name: name.into(), why, log: log.into() });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
