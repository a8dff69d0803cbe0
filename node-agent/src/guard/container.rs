//! One container's processes, from the first to the proof that none is left.

use std::io::{self, PipeReader, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use codeco_protocol::units::{BootTime, Micros};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, WaitOptions, WaitStatus, kill_process_group, pidfd_open, pidfd_send_signal,
    test_kill_process_group, waitpgid, waitpid,
};

use super::procfs;
use super::shim::REPORT_LEN_MAX;
use super::spawn::Spawned;
use crate::runtime::Exit;
use crate::runtime::supervisor::Signal;

/// First and longest pause between two looks whether a group is gone: the kernel has no event for that.
const LOOK_PAUSE_MIN: Micros = Micros::from_millis(1);
const LOOK_PAUSE_MAX: Micros = Micros::from_millis(100);

/// What the shim has reported.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Nothing yet.
    Pending,
    /// The program has taken the shim's place.
    Running,
    /// It could not, for this reason.
    NotRunnable(String),
}

/// A container's process group.
#[derive(Debug)]
pub(super) struct Container {
    /// Main process and process group.
    pid: Pid,
    process: OwnedFd,
    report: Option<PipeReader>,
    reported: Vec<u8>,
    /// Entries in the environment by which its processes are known.
    marks: Vec<String>,
    /// Set once the main process is dead and reaped: when to look again, and how long to pause then.
    draining: Option<(BootTime, Micros)>,
    /// Looks in a row that found nothing.
    clean_looks: u32,
}

impl Container {
    pub(super) fn new(spawned: Spawned, marks: Vec<String>) -> io::Result<Self> {
        let Spawned { pid, report } = spawned;
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => Ok(Self {
                pid,
                process,
                report: Some(report),
                reported: Vec::new(),
                marks,
                draining: None,
                clean_looks: 0,
            }),
            Err(error) => {
                // Unwatched it must not run. It is our child and not reaped, so the number is still its own.
                let _ = kill_process_group(pid, rustix::process::Signal::KILL);
                let _ = waitpid(Some(pid), WaitOptions::empty());
                Err(error.into())
            }
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        u32::try_from(self.pid.as_raw_nonzero().get()).ok()
    }

    /// Becomes readable when the main process has ended; `None` after that.
    pub(super) fn end_fd(&self) -> Option<BorrowedFd<'_>> {
        self.draining.is_none().then(|| self.process.as_fd())
    }

    /// Becomes readable when the shim has something to report; `None` after that.
    pub(super) fn report_fd(&self) -> Option<BorrowedFd<'_>> {
        self.report.as_ref().map(|report| report.as_fd())
    }

    /// When to look again whether it is gone.
    pub(super) fn look_at(&self) -> Option<BootTime> {
        self.draining.map(|(at, _)| at)
    }

    pub(super) fn signal(&self, signal: Signal) {
        // A group number is only safe to use while its leader is not reaped.
        if self.draining.is_some() {
            return;
        }
        let group = match signal {
            Signal::Terminate => kill_process_group(self.pid, rustix::process::Signal::TERM),
            Signal::Kill => {
                // The main process may have left its own group.
                let _ = pidfd_send_signal(&self.process, rustix::process::Signal::KILL);
                kill_process_group(self.pid, rustix::process::Signal::KILL)
            }
        };
        if let Err(error) = group
            && error != Errno::SRCH
        {
            say!("process group {} cannot be signalled: {error}", self.pid);
        }
    }

    /// Reads what the shim has to say.
    pub(super) fn read_report(&mut self) -> Report {
        let Some(report) = &mut self.report else { return Report::Pending };
        let mut chunk = [0; REPORT_LEN_MAX];
        while self.reported.len() < REPORT_LEN_MAX {
            match report.read(&mut chunk) {
                Ok(0) => break,
                Ok(len) => self.reported.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Report::Pending,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.report = None;
        if self.reported.is_empty() {
            Report::Running
        } else {
            Report::NotRunnable(String::from_utf8_lossy(&self.reported).into_owned())
        }
    }

    /// Takes note that the main process has ended, and kills what it left in its group.
    pub(super) fn reap(&mut self, now: BootTime) -> Option<Exit> {
        if self.draining.is_some() {
            return None;
        }
        // Before it is reaped: until then nobody else can get its number.
        self.signal(Signal::Kill);
        let status = match waitpid(Some(self.pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => Some(status),
            Ok(None) | Err(Errno::INTR) => return None,
            Err(_) => None,
        };
        self.draining = Some((now, LOOK_PAUSE_MIN));
        Some(status.map_or(Exit::Signal(9), exit_of))
    }

    /// Looks whether nothing is left. What is found outside the group is killed.
    pub(super) fn is_gone(&mut self, now: BootTime) -> bool {
        let Some((at, pause)) = self.draining else { return false };
        if now < at {
            return false;
        }
        // Orphans of the group have become our children (we are their subreaper): as zombies they would keep the
        // group alive.
        while let Ok(Some(_)) = waitpgid(self.pid, WaitOptions::NOHANG) {}
        let group_gone = test_kill_process_group(self.pid) == Err(Errno::SRCH);
        if group_gone && procfs::kill_marked(&self.marks) == 0 {
            self.clean_looks += 1;
            if self.clean_looks == procfs::CLEAN_LOOKS {
                return true;
            }
            self.draining = Some((now + LOOK_PAUSE_MIN, pause));
            return false;
        }
        self.clean_looks = 0;
        self.draining = Some((now + pause, Micros(pause.0 * 2).min(LOOK_PAUSE_MAX)));
        false
    }
}

fn exit_of(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Signal(9),
    }
}
