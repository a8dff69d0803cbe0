//! What happened in a run, counted.

use std::collections::BTreeMap;
use std::fmt;

use super::scenario::{FaultKind, Scenario};

/// Faults by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FaultCounts(BTreeMap<FaultKind, u64>);

impl FaultCounts {
    pub(crate) fn add(&mut self, kind: FaultKind) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// How often each kind happened.
    pub fn iter(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident: $label:literal,)*) => {
        /// What happened in one run or in many.
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct Counts {
            /// Faults by kind.
            pub faults: FaultCounts,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Names of all that is counted.
            pub const NAMES: &[&str] = &[$(stringify!($name),)*];

            /// What is counted under a name.
            #[must_use]
            pub fn called(&self, name: &str) -> Option<u64> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }

            /// Adds those of another run.
            pub fn add(&mut self, other: &Counts) {
                for (kind, count) in other.faults.iter() {
                    *self.faults.0.entry(kind).or_default() += count;
                }
                $(self.$name += other.$name;)*
            }

            /// What was counted, with its label.
            #[must_use]
            pub fn lines(&self) -> Vec<(String, u64)> {
                let faults = self.faults.iter().map(|(kind, count)| (format!("faults: {kind:?}"), count));
                let mut lines: Vec<(String, u64)> = faults.collect();
                $(lines.push(($label.to_owned(), self.$name));)*
                lines
            }
        }
    };
}

impl Counts {
    /// What a scenario wants to have happened, and has not.
    #[must_use]
    pub fn missing(&self, scenario: &Scenario) -> Vec<String> {
        let wanted = scenario.ends.happens.iter().filter(|name| self.called(name) == Some(0));
        let mut missing: Vec<String> = wanted.cloned().collect();
        if scenario.faults.per_minute > 0.0 {
            let drawn = scenario.faults.mix.iter().filter(|(_, weight)| *weight > 0).map(|(kind, _)| *kind);
            let never = drawn.filter(|kind| !self.faults.0.contains_key(kind));
            missing.extend(never.map(|kind| format!("fault {kind:?}")));
        }
        missing
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().into_iter().try_for_each(|(label, count)| writeln!(f, "{count:>14}  {label}"))
    }
}

counts! {
    /// Events handled.
    events: "events",
    /// Connections made.
    connections: "connections made",
    /// Control messages sent.
    sent: "control messages sent",
    /// Control messages delivered.
    delivered: "control messages delivered",
    /// For which there was no connection.
    undelivered: "control messages without a way",
    /// That the network lost.
    lost: "control messages lost",
    /// That came twice.
    repeated: "control messages repeated",
    /// Held up for half a second or more.
    delayed: "control messages held up",
    /// That were not their sender's to send.
    refused: "control messages refused",
    /// Connections closed because of facts that do not go on from what is known.
    gossip_refused: "connections closed because of gossip",
    /// Members called dead.
    deaths: "members called dead by another",
    /// Members that noticed that they hear nobody.
    cut_offs: "members that noticed to be cut off",
    /// Processes killed.
    crashes: "processes killed",
    /// Of them leads.
    lead_crashes: "leads killed",
    /// Of them hubs.
    hub_crashes: "hubs killed",
    /// Killed between two outputs of one step.
    crashes_amid_outputs: "processes killed amid the outputs of a step",
    /// Machines rebooted.
    reboots: "machines rebooted",
    /// Journals lost.
    disk_losses: "disks lost",
    /// Records that could not be written.
    writes_refused: "writes refused by a full disk",
    /// Journals compacted.
    compactions: "journals compacted",
    /// Applications applied.
    applied: "applications applied",
    /// Applications changed.
    changed: "applications changed",
    /// Applications scaled.
    scaled: "applications scaled",
    /// Applications deleted.
    deleted: "applications deleted",
    /// Applications gone for good.
    removed: "applications removed",
    /// Nodes cordoned or drained.
    drains: "nodes cordoned or drained",
    /// Promises of nodes that reached their lead.
    placements: "placements",
    /// On another node than the last.
    moves: "moves to another node",
    /// In another cluster than the last.
    migrations: "moves to another cluster",
    /// Terms begun by a lead that knew nodes.
    takeovers: "takeovers",
    /// Leads that another member followed.
    successions: "leads succeeded by another member",
    /// Voters admitted.
    voters_added: "voters admitted",
    /// Voters removed.
    voters_removed: "voters removed",
    /// Copies taken over by a lead that did not know of them.
    taken_over: "copies found running and kept",
    /// Nodes waited out.
    nodes_lost: "nodes waited out",
    /// Nodes that came back.
    nodes_back: "nodes that came back",
    /// Leads that missed most of their nodes at once.
    brakes_engaged: "brakes of leads engaged",
    /// Ended by return.
    brakes_released: "brakes of leads released",
    /// Homes that missed most clusters.
    home_brakes: "brakes of homes engaged",
    /// Left-behind copies ordered to stop.
    revocations: "copies revoked",
    /// Copies that served until the next one was ready.
    overlaps: "copies replaced by overlap",
    /// Replicas whose cluster did not hear their home for too long.
    homes_lost: "replicas whose cluster lost their home",
    /// Replicas whose home did not hear their cluster for too long.
    clusters_lost: "replicas whose home lost their cluster",
    /// Two copies brought back to one.
    reconciled: "reconnects that brought two copies back to one",
    /// Applications adopted.
    adopted: "applications adopted",
    /// Homes that gave an application up.
    gave_up: "homes that gave an application up",
    /// Mandates asked back.
    recalls: "mandates asked back",
    /// Mandates that went back.
    handed_back: "mandates handed back",
    /// Copies stopped by the guard.
    guard_kills: "copies stopped by the guard",
    /// Messages given twice to a copy of a core.
    replays: "messages replayed to a copy",
    /// Recoveries compared with the snapshot's.
    recoveries: "recoveries compared",
}
