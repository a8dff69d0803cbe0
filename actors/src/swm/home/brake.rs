//! The brake of a home: it misses most of the clusters it knows. And the pace of its destructive steps.
//!
//! While the brake holds no cluster counts as lost, however long it has been silent: the home may be the one that is cut
//! off. New replicas go to those clusters that are heard, as always.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use codeco_protocol::ids::ClusterName;
use codeco_protocol::units::{BootTime, Micros};

use super::{Home, HomeNote, HomeOutput};
use crate::swm::brake::{BRAKE_WINDOW, Brake, BrakeChange, Missing, Pace};

/// How long enough clusters must be heard again before the brake ends.
const SETTLE: Micros = Micros::from_secs(5);

/// The brake, and what it does not count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct HomeBrake {
    brake: Brake,
    /// Since when clusters count as lost, until they are heard again.
    given_up: BTreeMap<ClusterName, BootTime>,
    /// Clusters that do not count until they are heard again, by an operator's word.
    counted_out: BTreeSet<ClusterName>,
    /// Of steps that follow from silence, from a return, or from fewer copies being wanted.
    pub(super) pace: Pace,
}

impl Home {
    fn is_heard(&self, cluster: &ClusterName) -> bool {
        self.clusters.get(cluster).is_some_and(|facts| facts.reachable)
    }

    /// Those of the clusters in `due`, which have been silent for too long, that may count as lost now.
    pub(super) fn look_at_brake(
        &mut self,
        now: BootTime,
        due: BTreeSet<ClusterName>,
        out: &mut Vec<HomeOutput>,
    ) -> BTreeSet<ClusterName> {
        let heard: BTreeSet<ClusterName> = self
            .clusters
            .keys()
            .filter(|name| self.is_heard(name) && !due.contains(*name))
            .cloned()
            .collect();
        self.brake.given_up.retain(|name, _| !heard.contains(name));
        self.brake.counted_out.retain(|name| !heard.contains(name));
        let long_gone = |name: &ClusterName| {
            self.brake.given_up.get(name).is_some_and(|at| now.since(*at) >= BRAKE_WINDOW)
        };
        let counted: BTreeSet<&ClusterName> = self
            .clusters
            .keys()
            .chain(self.contacts.keys())
            .filter(|name| !self.brake.counted_out.contains(*name) && !long_gone(name))
            .collect();
        let silent = counted.iter().filter(|name| !heard.contains(**name)).count();
        let missing = Missing { silent, of: counted.len() };
        match self.brake.brake.look(now, missing, !due.is_empty(), SETTLE) {
            Some(BrakeChange::Engaged) => out.push(HomeOutput::Note(HomeNote::BrakeEngaged(missing))),
            Some(BrakeChange::Released) => out.push(HomeOutput::Note(HomeNote::BrakeReleased)),
            None => {}
        }
        let holds = self.brake.brake.is_engaged();
        due.into_iter().filter(|name| !holds || self.brake.counted_out.contains(name)).collect()
    }

    /// A cluster counts as lost.
    pub(super) fn gave_up(&mut self, now: BootTime, cluster: &ClusterName) {
        self.brake.given_up.entry(cluster.clone()).or_insert(now);
    }

    /// An operator's word: `cluster` is gone, and does not count until it is heard again. What it had may go elsewhere by
    /// the rules of its applications. `false` if no brake holds anything of it.
    pub fn release_brake(&mut self, now: BootTime, cluster: &ClusterName, out: &mut Vec<HomeOutput>) -> bool {
        let known = self.clusters.contains_key(cluster) || self.contacts.contains_key(cluster);
        if !self.is_braked() || !known || self.is_heard(cluster) {
            return false;
        }
        self.brake.counted_out.insert(cluster.clone());
        self.work(now, out);
        true
    }

    /// Whether the brake is engaged.
    #[must_use]
    pub fn is_braked(&self) -> bool {
        self.brake.brake.is_engaged()
    }
}
