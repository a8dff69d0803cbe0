//! What the guard waits for, in one `poll`.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};

use crate::runtime::supervisor::Slot;

/// Something to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Timer,
    Listener,
    /// The agent in charge.
    Agent,
    /// A connection that has not said hello yet.
    Newcomer,
    /// The end of a main process.
    End(Slot),
    /// The report of a shim.
    Report(Slot),
}

/// A set of things to wait for.
#[derive(Debug, Default)]
pub(super) struct Sources<'a> {
    names: Vec<Source>,
    fds: Vec<PollFd<'a>>,
}

impl<'a> Sources<'a> {
    pub(super) fn add(&mut self, name: Source, fd: BorrowedFd<'a>, writable_too: bool) {
        let write = if writable_too { PollFlags::OUT } else { PollFlags::empty() };
        self.names.push(name);
        self.fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN | write));
    }

    /// Waits; returns what is ready, nothing if a signal came in between.
    pub(super) fn wait(mut self) -> Vec<Source> {
        if let Err(error) = poll(&mut self.fds, None)
            && error != rustix::io::Errno::INTR
        {
            say!("waiting failed: {error}");
            // The machine is short of memory: the deadlines are looked at again in a moment.
            std::thread::sleep(std::time::Duration::from_millis(10));
            return Vec::new();
        }
        let ready = self.names.into_iter().zip(&self.fds).filter(|(_, fd)| !fd.revents().is_empty());
        ready.map(|(name, _)| name).collect()
    }
}
