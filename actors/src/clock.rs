//! Clocks, for shells only: cores are told the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use codeco_protocol::units::{BootTime, WallTime};
use tokio::sync::Notify;

/// The machine's boot clock, which also counts while suspended.
#[must_use]
pub fn boot_now() -> BootTime {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    BootTime(secs.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
}

/// The wall clock, for people.
#[must_use]
pub fn wall_now() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// When somebody wants to be woken; may be set earlier while he sleeps.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    at: AtomicU64,
    earlier: Notify,
}

impl Alarm {
    pub(crate) fn set(&self, at: BootTime) {
        if at.0 < self.at.swap(at.0, Ordering::AcqRel) {
            self.earlier.notify_one();
        }
    }

    /// Sleeps until it goes off, `least` at least and `most` at most; `false` if it was set earlier meanwhile.
    pub(crate) async fn goes_off(&self, least: Duration, most: Duration) -> bool {
        let due = self.at.load(Ordering::Acquire);
        let wait = Duration::from_micros(due.saturating_sub(boot_now().0)).clamp(least, most);
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = self.earlier.notified() => false,
        }
    }
}
