//! The time by which certificates and tokens are judged.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;

use crate::units::WallTime;

/// A wall clock that never goes back behind the last time its owner wrote down.
///
/// An edge node without a battery may boot in 1970, and then expired certificates would look valid. So time is the
/// larger of the wall clock and of the floor, which the process raises to the last journalled time. While the wall
/// clock is behind the floor, [`TrustClock::is_behind`] says so: «clock unknown».
#[derive(Clone)]
pub struct TrustClock {
    wall: Arc<dyn Fn() -> WallTime + Send + Sync>,
    floor: Arc<AtomicU64>,
}

impl TrustClock {
    /// Over the machine's wall clock, with no floor yet.
    #[must_use]
    pub fn system() -> Self {
        Self::with_source(|| {
            let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            WallTime(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
        })
    }

    /// Over any source of time: tests and simulators.
    pub fn with_source(wall: impl Fn() -> WallTime + Send + Sync + 'static) -> Self {
        Self { wall: Arc::new(wall), floor: Arc::new(AtomicU64::new(0)) }
    }

    /// Declares that `time` has been: from now on, no earlier time is given. Never lowers the floor.
    pub fn raise_floor(&self, time: WallTime) {
        self.floor.fetch_max(time.0, Ordering::Relaxed);
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> WallTime {
        WallTime((self.wall)().0.max(self.floor.load(Ordering::Relaxed)))
    }

    /// Whether the wall clock shows a time before the floor, so that the real time is unknown.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        (self.wall)().0 < self.floor.load(Ordering::Relaxed)
    }

    /// The time, for certificate verifiers.
    pub(super) fn now_unix(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(self.now().0))
    }
}

impl Default for TrustClock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for TrustClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustClock({} ms)", self.now().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_behind_its_floor_shows_the_floor_and_says_so() {
        let clock = TrustClock::with_source(|| WallTime(1_000));
        assert_eq!((clock.now(), clock.is_behind()), (WallTime(1_000), false));
        clock.raise_floor(WallTime(5_000));
        clock.raise_floor(WallTime(2_000));
        assert_eq!((clock.now(), clock.is_behind()), (WallTime(5_000), true));
        assert_eq!(clock.now_unix().as_secs(), 5);
    }
}
