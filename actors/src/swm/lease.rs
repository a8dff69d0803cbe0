//! Leases of nodes: the node counts from the time it asked, the lead from the time it answered.
//!
//! So whatever the network does in between, the node's count ends first. Waiting out a silent node therefore takes
//! `L·(1+drift)+margin` from the last answer the lead gave it (Gray and Cheriton, «Leases», SOSP 1989, with the
//! clock-rate bound made explicit).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::VecDeque;

use codeco_protocol::units::{BootTime, Micros};

/// Requests remembered while unanswered.
const OUTSTANDING_MAX: usize = 16;

/// How leases are counted; the same on all members of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseConfig {
    /// How long a lease lasts (L).
    pub duration: Micros,
    /// Bound on the difference in rate of two clocks, in parts per million.
    pub drift_ppm: u64,
    /// Bound on the delay of the guard and of scheduling at the node.
    pub margin: Micros,
}

impl LeaseConfig {
    /// How long after its last answer a lead knows that the node's lease has ended: `L·(1+drift)+margin`.
    #[must_use]
    pub fn wait_out(&self) -> Micros {
        let drift = self.duration.0.saturating_mul(self.drift_ppm).div_ceil(1_000_000);
        Micros(self.duration.0.saturating_add(drift).saturating_add(self.margin.0))
    }
}

impl Default for LeaseConfig {
    /// Three seconds, one per cent of drift, half a second of margin.
    fn default() -> Self {
        Self { duration: Micros::from_secs(3), drift_ppm: 10_000, margin: Micros::from_millis(500) }
    }
}

/// The node's side of its lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct NodeLease {
    outstanding: VecDeque<(u64, BootTime)>,
    next_nonce: u64,
    until: BootTime,
}

impl NodeLease {
    /// A node without lease. `first_nonce` must differ between lives of the process, so that an answer to an
    /// earlier life's request never counts.
    #[must_use]
    pub fn new(first_nonce: u64) -> Self {
        Self { outstanding: VecDeque::new(), next_nonce: first_nonce, until: BootTime(0) }
    }

    /// Notes that a request leaves now; returns its nonce.
    pub fn ask(&mut self, now: BootTime) -> u64 {
        let nonce = self.next_nonce;
        self.next_nonce = self.next_nonce.wrapping_add(1);
        if self.outstanding.len() == OUTSTANDING_MAX {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((nonce, now));
        nonce
    }

    /// Takes a grant. Returns `false` if it answers no request of this life, or an answered one.
    pub fn granted(&mut self, nonce: u64, duration: Micros) -> bool {
        let Some(at) = self.outstanding.iter().position(|(n, _)| *n == nonce) else { return false };
        let (_, asked) = self.outstanding[at];
        self.outstanding.drain(..=at);
        self.until = self.until.max(asked + duration);
        true
    }

    /// A newer term is obeyed: answers to requests made before must not count, because their giver, or what it knew of
    /// this node, may be outdated.
    pub fn forget_requests(&mut self) {
        self.outstanding.clear();
    }

    /// When the lease ends.
    #[must_use]
    pub fn until(&self) -> BootTime {
        self.until
    }

    /// Whether it still holds.
    #[must_use]
    pub fn holds(&self, now: BootTime) -> bool {
        now < self.until
    }
}

/// The lead's side of one node's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeadLease {
    last_answer: BootTime,
}

impl LeadLease {
    /// A lead that takes office must assume that its predecessor answered just now.
    #[must_use]
    pub fn assumed(now: BootTime) -> Self {
        Self { last_answer: now }
    }

    /// Notes that a grant leaves now.
    pub fn answered(&mut self, now: BootTime) {
        self.last_answer = self.last_answer.max(now);
    }

    /// When a grant last left.
    #[must_use]
    pub fn last_answer(&self) -> BootTime {
        self.last_answer
    }

    /// From when on the node's lease has surely ended.
    #[must_use]
    pub fn waited_out_at(&self, config: &LeaseConfig) -> BootTime {
        self.last_answer + config.wait_out()
    }

    /// Whether the node's lease has surely ended.
    #[must_use]
    pub fn is_waited_out(&self, now: BootTime, config: &LeaseConfig) -> bool {
        now >= self.waited_out_at(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_of_a_node_always_ends_before_its_lead_has_waited_it_out() {
        let config = LeaseConfig::default();
        let mut node = NodeLease::new(7);
        let nonce = node.ask(BootTime(1_000));
        let mut lead = LeadLease::assumed(BootTime(0));
        lead.answered(BootTime(2_000_000));
        assert!(node.granted(nonce, config.duration), "however late the answer arrives");
        assert!(node.until() < lead.waited_out_at(&config));
        assert!(!node.granted(nonce, config.duration), "a repeated answer extends nothing");
    }

    #[test]
    fn lease_answer_to_a_request_of_an_older_term_is_ignored() {
        let mut node = NodeLease::new(1);
        let nonce = node.ask(BootTime(1));
        node.forget_requests();
        assert!(!node.granted(nonce, Micros(10)));
    }

    #[test]
    fn lease_answer_to_another_life_or_to_an_overtaken_request_is_ignored() {
        let mut node = NodeLease::new(100);
        assert!(!node.granted(99, Micros(10)));
        let first = node.ask(BootTime(1));
        let second = node.ask(BootTime(2));
        assert!(node.granted(second, Micros(10)));
        assert!(!node.granted(first, Micros(1_000)), "older than one that was answered");
        assert_eq!(node.until(), BootTime(12));
    }
}
