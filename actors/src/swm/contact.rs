//! How long a cluster that does not hear a home keeps its right to a replica that may run once only.
//!
//! The cluster counts from the time it last asked and was answered, the home from the time it last answered. So whatever
//! the network does, the cluster's count ends first, as with the leases of nodes ([`super::lease`]). The home waits longer
//! by what the cluster may need to stop the replica: the lease its nodes may still have when a lead dies in between, and
//! the time the replica itself takes to end.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::VecDeque;

use codeco_protocol::units::{BootTime, Micros};

/// Questions remembered while unanswered.
const OUTSTANDING_MAX: usize = 16;

/// What a lead knows of one home. A new lead knows nothing: it has not been answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ClusterContact {
    outstanding: VecDeque<(u64, BootTime)>,
    asked: Option<BootTime>,
    next: BootTime,
}

impl ClusterContact {
    /// Notes that a question leaves now, if one is due; the next one is, after `pause`.
    pub fn ask(&mut self, now: BootTime, nonce: u64, pause: Micros) -> bool {
        if self.next > now {
            return false;
        }
        self.next = now + pause;
        if self.outstanding.len() == OUTSTANDING_MAX {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((nonce, now));
        true
    }

    /// Takes an answer. `false` if it answers nothing that was asked.
    pub fn answered(&mut self, nonce: u64) -> bool {
        let Some(at) = self.outstanding.iter().position(|(n, _)| *n == nonce) else { return false };
        let (_, asked) = self.outstanding[at];
        self.outstanding.drain(..=at);
        self.asked = self.asked.max(Some(asked));
        true
    }

    /// When a right that lasts `limit` without the home ends; `None` if the home has never been heard.
    #[must_use]
    pub fn until(&self, limit: Micros) -> Option<BootTime> {
        self.asked.map(|asked| asked + limit)
    }
}

/// Bounds that the home adds to what a cluster was allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Patience {
    /// Bound on the difference in rate of two clocks, in parts per million.
    pub drift_ppm: u64,
    /// Bound on delays of scheduling and of the guard.
    pub margin: Micros,
}

/// What a home knows of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HomeContact {
    last_answer: BootTime,
    allowance: Micros,
}

impl HomeContact {
    /// A home that begins must assume that it has just answered a lead that needs `allowance`.
    #[must_use]
    pub fn assumed(now: BootTime, allowance: Micros) -> Self {
        Self { last_answer: now, allowance }
    }

    /// An answer leaves now, to a lead that may need `allowance` beyond its count before nothing runs.
    pub fn answered(&mut self, now: BootTime, allowance: Micros) {
        self.last_answer = self.last_answer.max(now);
        self.allowance = self.allowance.max(allowance);
    }

    /// From when on a copy that takes `grace` to end surely does not run there any more.
    #[must_use]
    pub fn ended_at(&self, limit: Micros, grace: Micros, patience: Patience) -> BootTime {
        let drift = limit.0.saturating_mul(patience.drift_ppm).div_ceil(1_000_000);
        let wait = [drift, self.allowance.0, grace.0, patience.margin.0];
        self.last_answer + Micros(wait.into_iter().fold(limit.0, u64::saturating_add))
    }

    /// From when on a cluster has been silent for `limit`; nothing is said about what runs there.
    #[must_use]
    pub fn silent_at(&self, limit: Micros) -> BootTime {
        self.last_answer + limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Micros = Micros::from_secs(20);
    const PATIENCE: Patience = Patience { drift_ppm: 10_000, margin: Micros::from_secs(1) };

    #[test]
    fn right_of_a_cluster_ends_before_the_home_gives_it_away_however_late_the_answer_arrives() {
        let mut cluster = ClusterContact::default();
        assert!(cluster.ask(BootTime(1_000), 1, Micros::from_secs(1)));
        let mut home = HomeContact::assumed(BootTime(0), Micros::from_secs(5));
        home.answered(BootTime(9_000_000), Micros::from_secs(2));
        assert!(cluster.answered(1));
        let slow = cluster.until(LIMIT).unwrap();
        let (grace, allowance) = (Micros::from_secs(3), Micros::from_secs(5));
        assert!(slow + grace + allowance < home.ended_at(LIMIT, grace, PATIENCE));
    }

    #[test]
    fn answer_to_nothing_asked_or_to_an_overtaken_question_extends_nothing() {
        let mut cluster = ClusterContact::default();
        assert_eq!(cluster.until(LIMIT), None, "never heard is not heard just now");
        cluster.ask(BootTime(1), 1, Micros(1));
        cluster.ask(BootTime(5), 2, Micros(1));
        assert!(!cluster.answered(3) && cluster.answered(2) && !cluster.answered(1));
        assert_eq!(cluster.until(LIMIT), Some(BootTime(5) + LIMIT));
    }
}
