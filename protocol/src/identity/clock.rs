//! The time by which certificates and tokens are judged.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::UnixTime;

use super::files::{self, FileError};
use crate::units::WallTime;

/// No machine that runs this lives before 2026: a wall clock that says so is wrong.
const EARLIEST: WallTime = WallTime(1_767_225_600_000);
/// Between two notes of the time.
const NOTE_EVERY: Duration = Duration::from_secs(300);

/// A wall clock that never goes back behind the last time its owner wrote down.
///
/// An edge node without a battery may boot in 1970, and then expired certificates would look valid. So time is the
/// larger of the wall clock and of the floor, which the process raises to the last journalled time, and which goes on
/// with the monotonic clock. While the wall clock is behind the floor, [`TrustClock::is_behind`] says so: «clock
/// unknown». The real time is then later than what this clock shows, never earlier.
#[derive(Clone)]
pub struct TrustClock {
    wall: Arc<dyn Fn() -> WallTime + Send + Sync>,
    floor: Arc<Mutex<Floor>>,
    /// Whether the floor goes on by itself.
    runs: bool,
}

#[derive(Clone, Copy)]
struct Floor {
    at: WallTime,
    since: Instant,
}

impl TrustClock {
    /// Over the machine's wall clock, which is known to be wrong before 2026.
    #[must_use]
    pub fn system() -> Self {
        Self::system_off_by(0)
    }

    /// The same over a wall clock that goes wrong by `seconds`: for drills and tests.
    #[must_use]
    pub fn system_off_by(seconds: i64) -> Self {
        let clock = Self::with_source(move || {
            let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let millis = i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX);
            let shown = millis.saturating_add(seconds.saturating_mul(1_000));
            WallTime(u64::try_from(shown).unwrap_or(0))
        });
        clock.raise_floor(EARLIEST);
        Self { runs: true, ..clock }
    }

    /// Over any source of time: tests and simulators. Its floor stands still.
    pub fn with_source(wall: impl Fn() -> WallTime + Send + Sync + 'static) -> Self {
        let floor = Floor { at: WallTime(0), since: Instant::now() };
        Self { wall: Arc::new(wall), floor: Arc::new(Mutex::new(floor)), runs: false }
    }

    /// Declares that `time` has been: from now on, no earlier time is given. Never lowers the floor.
    pub fn raise_floor(&self, time: WallTime) {
        let mut floor = self.floor.lock().unwrap_or_else(PoisonError::into_inner);
        if time > self.present(*floor) {
            *floor = Floor { at: time, since: Instant::now() };
        }
    }

    /// Where a floor has come to by now.
    fn present(&self, floor: Floor) -> WallTime {
        let run = if self.runs { floor.since.elapsed() } else { Duration::ZERO };
        WallTime(floor.at.0.saturating_add(u64::try_from(run.as_millis()).unwrap_or(u64::MAX)))
    }

    fn floor(&self) -> Floor {
        *self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> WallTime {
        // The floor goes on only where the wall clock is wrong: two right clocks need not be compared.
        let (wall, floor) = ((self.wall)(), self.floor());
        if wall >= floor.at { wall } else { self.present(floor) }
    }

    /// Whether the wall clock shows a time before the floor, so that the real time is unknown.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        (self.wall)() < self.floor().at
    }

    /// The time at which certificates valid from `not_before` on are judged. What a trusted authority has dated has
    /// been, if one's own clock cannot contradict.
    pub(super) fn judging(&self, not_before: WallTime) -> WallTime {
        let now = self.now();
        if self.is_behind() { now.max(not_before) } else { now }
    }
}

/// A moment as certificate verifiers want it.
pub(super) fn unix(time: WallTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(time.0))
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

/// The last time written down, for the next start.
#[derive(Debug)]
pub struct ClockNote {
    path: PathBuf,
    clock: TrustClock,
    noted: Mutex<WallTime>,
}

impl ClockNote {
    /// Reads the time noted at `path`, if any, raises the clock's floor to it, and notes the present time. So each life
    /// of a process begins later than the one before, whatever the wall clock says.
    ///
    /// # Errors
    /// [`FileError`]: the file cannot be read or written. One that holds no number counts as none.
    pub fn open(path: &Path, clock: &TrustClock) -> Result<Self, FileError> {
        match files::read_private(path, 64) {
            Ok(content) => {
                let text = String::from_utf8_lossy(&content);
                match text.trim().parse::<u64>() {
                    Ok(millis) => clock.raise_floor(WallTime(millis.saturating_add(1))),
                    Err(_) => tracing::warn!(path = %path.display(), "holds no time; it is noted anew"),
                }
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let note = Self { path: path.to_owned(), clock: clock.clone(), noted: Mutex::new(WallTime(0)) };
        note.write(clock.now())?;
        Ok(note)
    }

    /// Notes the time, if that is due.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn keep(&self) -> Result<(), FileError> {
        let now = self.clock.now();
        let noted = *self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let every = u64::try_from(NOTE_EVERY.as_millis()).unwrap_or(u64::MAX);
        if now.0 >= noted.0.saturating_add(every) { self.write(now) } else { Ok(()) }
    }

    fn write(&self, now: WallTime) -> Result<(), FileError> {
        files::write_private(&self.path, now.0.to_string().as_bytes())?;
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
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
        assert_eq!(unix(clock.now()).as_secs(), 5);
    }

    #[test]
    fn clock_in_1970_is_unknown_goes_on_from_its_floor_and_believes_a_later_date_of_the_authority() {
        let clock = TrustClock::system_off_by(-4_000_000_000);
        assert!(clock.is_behind());
        let first = clock.now();
        assert!(first >= EARLIEST);
        while clock.now() == first {
            std::thread::yield_now();
        }
        assert!(clock.now() > first, "time passes");
        let dated = WallTime(EARLIEST.0 + 1_000_000_000);
        assert_eq!(clock.judging(dated), dated);
        let right = TrustClock::with_source(|| WallTime(1_000));
        assert_eq!(right.judging(dated), WallTime(1_000), "a known clock is not put forward by anybody");
    }

    #[test]
    fn each_life_begins_later_than_the_one_before_whatever_the_wall_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("time");
        let first = TrustClock::with_source(|| WallTime(9_000));
        ClockNote::open(&path, &first).unwrap();
        let second = TrustClock::with_source(|| WallTime(10));
        ClockNote::open(&path, &second).unwrap();
        assert_eq!(second.now(), WallTime(9_001));
        assert!(second.is_behind());
        files::write_private(&path, b"nonsense").unwrap();
        let third = TrustClock::with_source(|| WallTime(20));
        ClockNote::open(&path, &third).unwrap();
        assert_eq!(third.now(), WallTime(20), "what is no time is told and noted anew");
    }
}
