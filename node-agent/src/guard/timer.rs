//! An alarm on the boot clock: also right after the machine was suspended.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use codeco_protocol::units::BootTime;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A timer that makes its file descriptor readable.
#[derive(Debug)]
pub(super) struct Timer(OwnedFd);

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(timerfd_create(TimerfdClockId::Boottime, flags)?))
    }

    /// Rings at `at`, at once if that has passed; `None` silences it.
    pub(super) fn set(&self, at: Option<BootTime>) -> io::Result<()> {
        let span = |micros: u64| Timespec {
            tv_sec: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(micros % 1_000_000).unwrap_or(0) * 1_000,
        };
        // All zero would silence it.
        let value = at.map_or(span(0), |at| span(at.0.max(1)));
        let alarm = Itimerspec { it_interval: span(0), it_value: value };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &alarm)?;
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
