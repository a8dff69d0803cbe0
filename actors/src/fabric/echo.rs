//! Round trips measured by this process itself: a nonce goes out as a datagram, and the other end sends it back.
//!
//! QUIC tells smoothed round trips only, and on a link that carries much, only the mean of many. A single one tells how
//! short a way can be, alike on links that carry much and on those that carry nothing.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use codeco_protocol::gossip::Probe;
use codeco_protocol::ids::MemberId;
use codeco_protocol::units::{BootTime, Micros};

use super::commons::Commons;
use super::link;

/// Members asked at a time at most.
const ASKED_MAX: usize = 8_192;
/// An answer later than this is not waited for.
const LATE: Micros = Micros::from_secs(3);

/// What was asked and not yet answered, and answers that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    asked: BTreeMap<MemberId, (u32, BootTime)>,
    heard: BTreeMap<MemberId, Micros>,
}

impl Echoes {
    /// Whether a member may be asked now: one question at a time.
    fn ask(&mut self, member: MemberId, nonce: u32, now: BootTime) -> bool {
        let waits = self.asked.get(&member).is_some_and(|(_, since)| now.since(*since) < LATE);
        let room = self.asked.len() < ASKED_MAX || self.asked.contains_key(&member);
        if waits || !room {
            return false;
        }
        self.asked.insert(member, (nonce, now));
        true
    }

    fn answered(&mut self, member: MemberId, nonce: u32, now: BootTime) {
        let Some((asked, since)) = self.asked.get(&member).copied() else { return };
        // Of an earlier question, or made up.
        if asked != nonce {
            return;
        }
        self.asked.remove(&member);
        // Below what the clock can tell, it is still no round trip of nothing.
        let round_trip = Micros(now.since(since).0.max(1));
        let least = self.heard.entry(member).or_insert(round_trip);
        *least = (*least).min(round_trip);
    }

    fn take(&mut self, now: BootTime) -> BTreeMap<MemberId, Micros> {
        self.asked.retain(|_, (_, since)| now.since(*since) < LATE);
        std::mem::take(&mut self.heard)
    }
}

impl Commons {
    /// Measures the way to a connected member; [`Commons::take_echoes`] tells the answer. What is lost is not repeated.
    pub fn send_echo(&self, member: MemberId, now: BootTime) {
        let Some(connection) = self.link(member) else { return };
        let nonce = fastrand::u32(..);
        if self.echoes.lock().unwrap_or_else(PoisonError::into_inner).ask(member, nonce, now) {
            self.spoken.probe();
            link::send_on(&connection, Probe::Echo { nonce });
        }
    }

    pub(super) fn note_echo(&self, member: MemberId, nonce: u32, now: BootTime) {
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner).answered(member, nonce, now);
    }

    /// Round trips measured since this was last asked, the least of each member.
    #[must_use]
    pub fn take_echoes(&self, now: BootTime) -> BTreeMap<MemberId, Micros> {
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MemberId = MemberId(1);
    const MILLI: u64 = 1_000;

    #[test]
    fn echo_is_measured_from_its_question_and_asked_one_at_a_time() {
        let mut echoes = Echoes::default();
        assert!(echoes.ask(A, 7, BootTime(0)));
        assert!(!echoes.ask(A, 8, BootTime(MILLI)), "an answer is under way");
        echoes.answered(A, 7, BootTime(2 * MILLI));
        echoes.answered(A, 7, BootTime(9 * MILLI));
        assert!(echoes.ask(A, 9, BootTime(10 * MILLI)));
        echoes.answered(A, 9, BootTime(15 * MILLI));
        let taken = echoes.take(BootTime(20 * MILLI));
        assert_eq!(taken, BTreeMap::from([(A, Micros::from_millis(2))]), "the least of both");
        assert!(echoes.take(BootTime(21 * MILLI)).is_empty(), "each is told once");
    }

    #[test]
    fn echo_that_was_not_asked_for_or_comes_too_late_counts_for_nothing() {
        let mut echoes = Echoes::default();
        echoes.answered(A, 7, BootTime(0));
        assert!(echoes.ask(A, 7, BootTime(0)));
        echoes.answered(A, 8, BootTime(MILLI));
        assert!(echoes.take(BootTime(LATE.0)).is_empty(), "a nonce that was never sent");
        echoes.answered(A, 7, BootTime(LATE.0 + 1));
        assert!(
            echoes.take(BootTime(LATE.0 + 2)).is_empty(),
            "a failed probe is a failure, not a round trip"
        );
        assert!(echoes.ask(A, 9, BootTime(LATE.0 + 3)));
    }
}
