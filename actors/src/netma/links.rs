//! One link: round trip, jitter and loss from what QUIC counts on its path, and whether it is up from what the
//! membership's probes say.
//!
//! QUIC tells a smoothed round trip only (RFC 9002 §5.3: `smoothed = 7/8 · smoothed + 1/8 · sample`). What has come
//! between two looks follows from the two smoothed values: of one acknowledgement the sample itself, of several their
//! weighted mean. Jitter is the mean difference of consecutive ones (RFC 3550 §6.4.1), and that of means is scaled to what
//! single samples would differ by if they were independent. So smoothing does not hide it.

use codeco_protocol::gossip::Liveness;
use codeco_protocol::transport::PathSample;
use codeco_protocol::units::{BootTime, Micros};

/// Half of the time over which the least round trip is taken.
const WINDOW: Micros = Micros::from_secs(30);
/// A difference between two samples counts for one part in so many of the jitter.
const JITTER_PART: f64 = 8.0;
/// What is kept of the smoothed round trip at each sample (RFC 9002 §5.3).
const SMOOTHING: f64 = 7.0 / 8.0;
/// Acknowledgements between two looks of which more tell nothing more.
const ANSWERS_MAX: u64 = 64;
/// What is kept, from look to look, of the packets that loss is a share of.
const LOSS_MEMORY: f64 = 0.98;
/// Packets without which loss is not told.
const LOSS_PACKETS_MIN: f64 = 10.0;

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkState {
    /// Its member answers.
    Up,
    /// An answer is missing.
    Silent,
    /// Its member is believed dead.
    Down,
    /// No connection is kept: what was measured is the past.
    Idle,
}

/// What is known of one link.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    state: LinkState,
    measured: Option<BootTime>,
    last: Option<PathSample>,
    smoothed_ns: u64,
    sample: Option<Sample>,
    jitter_ns: Option<f64>,
    least: Least,
    sent: f64,
    lost: f64,
    probes: u32,
    last_probe: Option<BootTime>,
}

/// The mean of the round trips behind the acknowledgements between two looks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    mean_ns: f64,
    /// Of how many equal samples the mean varies as much.
    worth: f64,
}

impl Sample {
    /// What has moved the smoothed round trip from `before` to `after` by so many acknowledgements.
    #[allow(clippy::cast_precision_loss)]
    fn of(before: u64, after: u64, answers: u64) -> Self {
        let answers = i32::try_from(answers.min(ANSWERS_MAX)).unwrap_or(1);
        // The newest counts one part of eight, each older one seven eighths of the one after it.
        let kept = SMOOTHING.powi(answers);
        let mean_ns = ((after as f64 - before as f64 * kept) / (1.0 - kept)).max(0.0);
        let worth = (1.0 - kept).powi(2) * (1.0 + SMOOTHING) / ((1.0 - SMOOTHING) * (1.0 - kept * kept));
        Self { mean_ns, worth }
    }

    /// By how much single samples would differ.
    fn differs(self, other: Self) -> f64 {
        (self.mean_ns - other.mean_ns).abs() * (2.0 / (1.0 / self.worth + 1.0 / other.worth)).sqrt()
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn whole_ns(self) -> u64 {
        self.mean_ns as u64
    }
}

/// The least of the last half minute and of the one before.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Least {
    now: Option<u64>,
    before: Option<u64>,
    since: BootTime,
}

impl Least {
    fn take(&mut self, now: BootTime, value: u64) {
        if now.since(self.since) >= WINDOW {
            let both = now.since(self.since).0 >= 2 * WINDOW.0;
            self.before = if both { None } else { self.now };
            (self.now, self.since) = (None, now);
        }
        self.now = Some(self.now.map_or(value, |least| least.min(value)));
    }

    fn get(&self) -> Option<u64> {
        [self.now, self.before].into_iter().flatten().min()
    }
}

impl Link {
    pub(super) fn new(now: BootTime) -> Self {
        Self {
            state: LinkState::Idle,
            measured: None,
            last: None,
            smoothed_ns: 0,
            sample: None,
            jitter_ns: None,
            least: Least { now: None, before: None, since: now },
            sent: 0.0,
            lost: 0.0,
            probes: 0,
            last_probe: None,
        }
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> LinkState {
        self.state
    }

    /// When it was last measured.
    #[must_use]
    pub fn measured(&self) -> Option<BootTime> {
        self.measured
    }

    /// Smoothed round trip; `None` while nothing comes back: a failed probe is a failure, not a round trip.
    #[must_use]
    pub fn round_trip(&self) -> Option<Micros> {
        self.tells().then_some(Micros(self.smoothed_ns / 1_000))
    }

    /// Least round trip of the last half minute to minute.
    #[must_use]
    pub fn least(&self) -> Option<Micros> {
        self.least.get().filter(|_| self.tells()).map(|ns| Micros(ns / 1_000))
    }

    /// Mean difference of consecutive round trips.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn jitter(&self) -> Option<Micros> {
        self.jitter_ns.filter(|_| self.tells()).map(|ns| Micros((ns / 1_000.0) as u64))
    }

    /// Share of packets lost, of the last minute or so; `None` before enough were sent to tell.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        (self.sent >= LOSS_PACKETS_MIN).then(|| (self.lost / self.sent).clamp(0.0, 1.0))
    }

    /// Largest UDP payload its path carries.
    #[must_use]
    pub fn mtu(&self) -> Option<u16> {
        self.last.filter(|_| self.tells()).map(|sample| sample.mtu)
    }

    /// Probes of our own over the present connection.
    pub(super) fn probes(&self) -> u32 {
        self.probes
    }

    /// When the last of them was sent.
    pub(super) fn last_probe(&self) -> Option<BootTime> {
        self.last_probe
    }

    /// A probe is sent.
    pub(super) fn note_probe(&mut self, now: BootTime) {
        self.probes = self.probes.saturating_add(1);
        self.last_probe = Some(now);
    }

    fn tells(&self) -> bool {
        self.measured.is_some() && self.state != LinkState::Down
    }

    /// Looks once; `echo` is what a probe of our own has measured since the last look. Returns whether there was an
    /// answer to anything: then the round trip is fresh.
    pub(super) fn look(
        &mut self,
        now: BootTime,
        path: Option<PathSample>,
        believed: Option<Liveness>,
        echo: Option<Micros>,
    ) -> bool {
        self.state = match (believed, path) {
            (Some(Liveness::Dead | Liveness::Left), _) => LinkState::Down,
            (Some(Liveness::Suspect), _) => LinkState::Silent,
            (_, Some(_)) => LinkState::Up,
            (_, None) => LinkState::Idle,
        };
        match path {
            Some(path) => {
                let answered = self.take(now, path);
                answered | self.take_echo(now, echo)
            }
            None => {
                self.last = None;
                false
            }
        }
    }

    /// A single round trip tells how short the way can be, where the transport tells only a mean of many.
    fn take_echo(&mut self, now: BootTime, echo: Option<Micros>) -> bool {
        let Some(echo) = echo else { return false };
        self.least.take(now, echo.0.saturating_mul(1_000));
        self.measured = Some(now);
        true
    }

    #[allow(clippy::cast_precision_loss)]
    fn take(&mut self, now: BootTime, path: PathSample) -> bool {
        let smoothed = u64::try_from(path.smoothed.as_nanos()).unwrap_or(u64::MAX);
        let before = self.last.replace(path).filter(|last| last.connection == path.connection);
        let Some(before) = before else {
            // Of a new connection the first value is all there is; it was measured during its handshake.
            (self.smoothed_ns, self.sample) = (smoothed, None);
            (self.probes, self.last_probe) = (0, None);
            self.least.take(now, smoothed);
            self.measured = Some(now);
            return true;
        };
        self.sent = self.sent * LOSS_MEMORY + path.sent.saturating_sub(before.sent) as f64;
        self.lost = self.lost * LOSS_MEMORY + path.lost.saturating_sub(before.lost) as f64;
        let answers = path.acks.saturating_sub(before.acks);
        if answers == 0 {
            return false;
        }
        self.measured = Some(now);
        let sample = Sample::of(self.smoothed_ns, smoothed, answers);
        self.least.take(now, sample.whole_ns());
        if let Some(last) = self.sample {
            let difference = last.differs(sample);
            let jitter = self.jitter_ns.unwrap_or(difference);
            self.jitter_ns = Some(jitter + (difference - jitter) / JITTER_PART);
        }
        self.sample = Some(sample);
        self.smoothed_ns = smoothed;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A path that QUIC smooths as it does, with one acknowledgement a look.
    struct Path {
        sample: PathSample,
        link: Link,
        now: BootTime,
    }

    impl Path {
        fn new(first: Duration) -> Self {
            let sample = PathSample { connection: 1, smoothed: first, acks: 0, sent: 0, lost: 0, mtu: 1_452 };
            Self { sample, link: Link::new(BootTime(0)), now: BootTime(0) }
        }

        fn look(&mut self, measured: Option<Duration>) -> bool {
            self.now = self.now + Micros::from_secs(1);
            self.sample.sent += 2;
            if let Some(measured) = measured {
                self.sample.smoothed = (self.sample.smoothed * 7 + measured) / 8;
                self.sample.acks += 1;
            }
            self.link.look(self.now, Some(self.sample), Some(Liveness::Alive), None)
        }
    }

    #[test]
    fn link_tells_jitter_that_smoothing_would_hide() {
        let mut path = Path::new(Duration::from_millis(20));
        for look in 0..200 {
            let swing = if look % 2 == 0 { 15 } else { 25 };
            assert!(path.look(Some(Duration::from_millis(swing))));
        }
        let jitter = path.link.jitter().unwrap();
        assert!((9_900..10_100).contains(&jitter.0), "10 ms from sample to sample: {jitter}");
        let round_trip = path.link.round_trip().unwrap();
        assert!((19_000..21_000).contains(&round_trip.0), "{round_trip}");
        let least = path.link.least().unwrap();
        assert!((14_900..15_100).contains(&least.0), "{least}");
    }

    #[test]
    fn link_with_many_answers_a_look_tells_about_the_same_jitter_as_one_with_a_single_one() {
        let jitter = |answers: u64| {
            let mut rng = fastrand::Rng::with_seed(7);
            let mut path = Path::new(Duration::from_millis(20));
            for _ in 0..2_000 {
                for _ in 1..answers {
                    let sample = Duration::from_micros(rng.u64(15_000..25_000));
                    path.sample.smoothed = (path.sample.smoothed * 7 + sample) / 8;
                    path.sample.acks += 1;
                }
                path.look(Some(Duration::from_micros(rng.u64(15_000..25_000))));
            }
            path.link.jitter().unwrap().0
        };
        // Two values evenly spread over 10 ms differ by a third of that in the mean; this is a moving mean.
        for answers in [1, 3, 8] {
            assert!((1_800..5_500).contains(&jitter(answers)), "{answers}: {} µs", jitter(answers));
        }
    }

    #[test]
    fn link_that_became_longer_forgets_how_short_it_was() {
        let mut path = Path::new(Duration::from_millis(1));
        for _ in 0..10 {
            path.look(Some(Duration::from_millis(1)));
        }
        for _ in 0..70 {
            path.look(Some(Duration::from_millis(100)));
        }
        assert!(path.link.least().unwrap() >= Micros::from_millis(99), "{:?}", path.link);
    }

    #[test]
    fn link_without_answers_is_not_measured_again_and_one_that_is_down_tells_no_round_trip() {
        let mut path = Path::new(Duration::from_millis(1));
        path.look(Some(Duration::from_millis(1)));
        let measured = path.link.measured();
        assert!(!path.look(None));
        assert_eq!(path.link.measured(), measured);
        path.link.look(path.now, Some(path.sample), Some(Liveness::Suspect), None);
        assert_eq!(path.link.state(), LinkState::Silent);
        path.link.look(path.now, None, Some(Liveness::Dead), None);
        assert_eq!(
            (path.link.state(), path.link.round_trip(), path.link.least()),
            (LinkState::Down, None, None)
        );
        path.link.look(path.now, None, Some(Liveness::Alive), None);
        assert_eq!((path.link.state(), path.link.measured()), (LinkState::Idle, measured));
    }

    #[test]
    fn link_loses_what_its_path_has_lost_lately() {
        let mut path = Path::new(Duration::from_millis(1));
        assert_eq!(path.link.loss(), None);
        for look in 0..50 {
            path.sample.lost += look % 2;
            path.look(Some(Duration::from_millis(1)));
        }
        let loss = path.link.loss().unwrap();
        assert!((0.2..0.3).contains(&loss), "one of four: {loss}");
        for _ in 0..200 {
            path.look(Some(Duration::from_millis(1)));
        }
        assert!(path.link.loss().unwrap() < 0.01);
    }

    #[test]
    fn link_that_carries_much_tells_by_a_probe_of_its_own_how_short_it_is() {
        let mut path = Path::new(Duration::from_millis(9));
        for _ in 0..5 {
            path.look(Some(Duration::from_millis(9)));
        }
        assert!(
            path.link.least().unwrap() >= Micros::from_millis(8),
            "of the mean that is all that is known"
        );
        path.now = path.now + Micros::from_secs(1);
        let echo = Some(Micros::from_millis(2));
        assert!(path.link.look(path.now, Some(path.sample), Some(Liveness::Alive), echo), "it is an answer");
        assert_eq!(path.link.least(), echo);
        assert_eq!(path.link.measured(), Some(path.now));
        assert!(path.link.round_trip().unwrap() >= Micros::from_millis(8), "what is usual is told as before");
    }

    #[test]
    fn link_of_a_new_connection_counts_from_its_beginning() {
        let mut path = Path::new(Duration::from_millis(1));
        path.look(Some(Duration::from_millis(1)));
        path.sample = PathSample { connection: 2, acks: 0, sent: 1, lost: 0, ..path.sample };
        assert!(path.look(None), "its handshake has measured it");
        assert!(!path.look(None));
    }
}
