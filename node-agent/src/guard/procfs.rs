//! What the process table says about processes that are ours.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

/// Environment read per process at most; more than Linux lets a process start with by default.
const ENVIRON_LEN_MAX: u64 = 4 * 1024 * 1024;

/// Processes that carry all of `marks` (`NAME=value`) in their environment, this one excepted. Dead ones that
/// nobody has waited for yet carry nothing.
pub(super) fn marked(marks: &[String]) -> Vec<Pid> {
    pids().filter(|pid| *pid != getpid() && carries(*pid, marks)).collect()
}

/// Looks without a find, one after the other with a pause between them, before «none» is believed: a look is not
/// atomic, and a process between two programs carries nothing for a moment.
pub(super) const CLEAN_LOOKS: u32 = 2;

/// Sends SIGKILL to every process that carries `marks`; returns how many there were.
pub(super) fn kill_marked(marks: &[String]) -> usize {
    let found = marked(marks);
    for pid in &found {
        // The number may belong to another process by now: hold on to the process, then look again.
        if let Ok(process) = pidfd_open(*pid, PidfdFlags::empty())
            && carries(*pid, marks)
            && let Err(error) = pidfd_send_signal(&process, Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            say!("process {pid} is ours and cannot be killed: {error}");
        }
    }
    found.len()
}

/// Dead children of this process that wait to be reaped.
pub(super) fn zombies() -> Vec<Pid> {
    pids().filter(|pid| stat(*pid) == Some(('Z', getpid()))).collect()
}

fn pids() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

fn carries(pid: Pid, marks: &[String]) -> bool {
    let mut environ = Vec::new();
    let Ok(file) = fs::File::open(Path::new("/proc").join(pid.to_string()).join("environ")) else {
        return false;
    };
    if file.take(ENVIRON_LEN_MAX).read_to_end(&mut environ).is_err() {
        return false;
    }
    marks.iter().all(|mark| environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()))
}

/// State letter and parent.
fn stat(pid: Pid) -> Option<(char, Pid)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself hold spaces and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, Pid::from_raw(fields.next()?.parse().ok()?)?))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn process_with_all_marks_is_found_and_one_with_some_is_not() {
        let mut child = Command::new("cat")
            .env("MARK_A", "1")
            .env("MARK_B", "2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // `spawn` returns while the kernel still sets the new program up; one that answers has its environment.
        child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pid = Pid::from_child(&child);
        assert_eq!(marked(&["MARK_A=1".into(), "MARK_B=2".into()]), vec![pid]);
        assert_eq!(marked(&["MARK_A=1".into(), "MARK_B=3".into()]), vec![]);
        assert_eq!(kill_marked(&["MARK_A=1".into(), "MARK_B=2".into()]), 1);
        assert!(!child.wait().unwrap().success());
    }
}
