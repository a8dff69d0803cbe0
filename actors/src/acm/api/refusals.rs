//! Refusals: each is counted, and of each reason and address one a minute is reported.
//!
//! Whoever knocks a thousand times a second must not write a thousand lines of log, nor push out the events of others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::guard::ApiRole;

/// Most reports that wait to be taken; more are dropped, and counted with the next.
pub const REFUSED_QUEUE_MAX: usize = 256;
/// How often the same refusal is reported.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// Most pairs of address and reason remembered. Beyond it, refusals are counted and not reported.
const REMEMBERED_MAX: usize = 4_096;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// Why somebody was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RefusalReason {
            $($(#[$doc])* $name,)+
        }

        impl RefusalReason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Stable word, for metrics and logs.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }
    };
}

reasons! {
    /// No token.
    NoToken = "no-token",
    /// A token that this hub did not give out.
    BadToken = "bad-token",
    /// A token whose role may not do this.
    WrongRole = "wrong-role",
    /// A body that is too large.
    BodyTooLarge = "body-too-large",
    /// A body that did not arrive in time.
    BodyTooSlow = "body-too-slow",
    /// Bytes that are no TLS handshake of ours.
    Handshake = "handshake",
    /// A handshake that was not finished in time.
    HandshakeTooSlow = "handshake-too-slow",
    /// Bytes that are no HTTP.
    BadHttp = "bad-http",
    /// Too many connections.
    TooManyConnections = "too-many-connections",
}

/// A report of a refusal, for the log and for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Who was refused.
    pub peer: IpAddr,
    /// Why.
    pub reason: RefusalReason,
    /// Role of the token, where there was a good one.
    pub role: Option<ApiRole>,
    /// Name of the token, where there was a good one.
    pub name: Option<String>,
    /// Method and path, where there was a request; otherwise what the library said.
    pub route: String,
    /// How often the same was refused since the last report of it, and not reported.
    pub unreported: u64,
}

/// Counts of refusals, and the queue of their reports.
#[derive(Debug)]
pub struct Refusals {
    counts: Vec<AtomicU64>,
    reported: Mutex<HashMap<(IpAddr, RefusalReason), Reported>>,
    queue: mpsc::Sender<Refused>,
}

#[derive(Debug)]
struct Reported {
    first: Refused,
    at: Instant,
    since: u64,
}

impl Refusals {
    /// Counts at zero, and the queue to read reports from: at most [`REFUSED_QUEUE_MAX`] of them.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Refused>) {
        let (queue, reports) = mpsc::channel(REFUSED_QUEUE_MAX);
        let counts = RefusalReason::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        (Self { counts, reported: Mutex::default(), queue }, reports)
    }

    /// How often each reason has been given, for metrics.
    #[must_use]
    pub fn counts(&self) -> Vec<(RefusalReason, u64)> {
        let loaded = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        RefusalReason::ALL.iter().copied().zip(loaded).collect()
    }

    /// Counts `refused`, and reports it unless the same was reported within a minute.
    pub(super) fn note(&self, refused: Refused) {
        self.note_at(refused, Instant::now());
    }

    fn note_at(&self, mut refused: Refused, now: Instant) {
        if let Some(count) = self.counts.get(refused.reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let key = (refused.peer, refused.reason);
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = reported.get_mut(&key)
            && now.saturating_duration_since(last.at) < REPORT_EVERY
        {
            last.since += 1;
            return;
        }
        refused.unreported = reported.get(&key).map_or(0, |last| last.since);
        if reported.len() >= REMEMBERED_MAX && !reported.contains_key(&key) {
            reported.retain(|_, last| now.saturating_duration_since(last.at) < REPORT_EVERY);
            if reported.len() >= REMEMBERED_MAX {
                return;
            }
        }
        let unreported = refused.unreported;
        let first = Refused { unreported: 0, ..refused.clone() };
        let since = if self.queue.try_send(refused).is_ok() { 0 } else { unreported + 1 };
        reported.insert(key, Reported { first, at: now, since });
    }

    /// Refusals that were counted and not reported yet: each as it was first reported, and how often since. For an
    /// event whose count grows while its text stays. They are taken: the next call tells of later ones.
    #[must_use]
    pub fn take_repeats(&self) -> Vec<Refused> {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let repeated = reported.values_mut().filter(|known| known.since > 0);
        repeated
            .map(|known| Refused { unreported: std::mem::take(&mut known.since), ..known.first.clone() })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(last: u8, reason: RefusalReason) -> Refused {
        let peer = IpAddr::from([10, 0, 0, last]);
        Refused { peer, reason, role: None, name: None, route: "GET /".to_owned(), unreported: 0 }
    }

    #[test]
    fn refusals_of_one_minute_are_all_counted_and_reported_once_for_each_peer_and_reason() {
        let (refusals, mut reports) = Refusals::new();
        let start = Instant::now();
        for second in 0..50 {
            let now = start + Duration::from_secs(second);
            refusals.note_at(refused(1, RefusalReason::NoToken), now);
            refusals.note_at(refused(1, RefusalReason::BadToken), now);
            refusals.note_at(refused(2, RefusalReason::NoToken), now);
        }
        let seen: Vec<_> = std::iter::from_fn(|| reports.try_recv().ok()).collect();
        assert_eq!(seen.len(), 3, "{seen:?}");
        let repeats: u64 = refusals.take_repeats().iter().map(|repeat| repeat.unreported).sum();
        assert_eq!((repeats, refusals.take_repeats().len()), (150 - 3, 0));
        refusals.note_at(refused(1, RefusalReason::NoToken), start + Duration::from_secs(59));
        refusals.note_at(refused(1, RefusalReason::NoToken), start + Duration::from_secs(61));
        assert_eq!(reports.try_recv().unwrap().unreported, 1);
        let counts = refusals.counts();
        assert!(counts.contains(&(RefusalReason::NoToken, 102)), "{counts:?}");
        assert!(counts.contains(&(RefusalReason::BadToken, 50)), "{counts:?}");
    }

    #[test]
    fn refusals_of_very_many_peers_take_bounded_memory_and_none_blocks() {
        let (refusals, _reports) = Refusals::new();
        let now = Instant::now();
        for n in 0..10_000_u32 {
            let mut refused = refused(0, RefusalReason::Handshake);
            refused.peer = IpAddr::from(n.to_be_bytes());
            refusals.note_at(refused, now);
        }
        assert_eq!(refusals.reported.lock().unwrap().len(), REMEMBERED_MAX);
        assert!(refusals.counts().contains(&(RefusalReason::Handshake, 10_000)));
    }
}
