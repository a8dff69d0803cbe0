//! Clocks, for shells only: cores are told the time.

use codeco_protocol::units::{BootTime, WallTime};

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
