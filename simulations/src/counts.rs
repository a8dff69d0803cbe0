//! What happened in a run, counted.

use std::fmt;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident: $label:literal,)*) => {
        /// What happened in one run or in many.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds those of another run.
            pub fn add(&mut self, other: &Counts) {
                $(self.$name += other.$name;)*
            }

            /// Labels of what never happened. A set of runs in which something never happened proves nothing about it.
            #[must_use]
            pub fn missing(&self) -> Vec<&'static str> {
                let mut missing = Vec::new();
                $(if self.$name == 0 { missing.push($label); })*
                missing
            }
        }

        impl fmt::Display for Counts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "{:>12}  {}", self.$name, $label)?;)*
                Ok(())
            }
        }
    };
}

counts! {
    /// Events handled.
    events: "events",
    /// Messages delivered.
    delivered: "messages delivered",
    /// Messages the network lost.
    lost: "messages lost",
    /// Messages the network repeated.
    repeated: "messages repeated",
    /// Messages held up for seconds.
    delayed: "messages delayed by seconds",
    /// Messages that met a cut link.
    cut: "messages stopped by a cut link",
    /// Agents killed.
    agent_crashes: "agent crashes",
    /// Processes killed between two outputs of one step.
    crashes_amid_outputs: "crashes amid the outputs of a step",
    /// Machines rebooted.
    reboots: "reboots",
    /// Journals lost.
    disk_losses: "disk losses",
    /// Leads that lost their journals.
    lead_disk_losses: "disk losses of leads",
    /// Electors killed.
    elector_crashes: "elector crashes",
    /// Electors killed while they led.
    lead_crashes: "lead crashes",
    /// Leads that another member followed.
    successions: "leads succeeded by another member",
    /// Voters admitted.
    voters_added: "voters admitted",
    /// Voters removed.
    voters_removed: "voters removed",
    /// Homes killed.
    home_crashes: "home crashes",
    /// Links cut in one direction.
    one_way_cuts: "links cut one way",
    /// Links cut.
    two_way_cuts: "links cut both ways",
    /// Machines cut off from all others.
    isolations: "machines isolated",
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
    /// Promises of nodes that reached their lead.
    placements: "placements",
    /// Placements on another node than the last.
    moves: "moves to another node",
    /// Placements in another cluster than the last.
    migrations: "moves to another cluster",
    /// Terms begun by a lead that knew nodes.
    takeovers: "takeovers",
    /// Copies taken over by a lead that did not know of them.
    adoptions: "adoptions",
    /// Nodes waited out.
    nodes_lost: "nodes waited out",
    /// Nodes that came back.
    nodes_back: "nodes that came back",
    /// Leads that missed most of their nodes at once.
    brakes_engaged: "brakes engaged",
    /// Steps of a lead whose brake held a replica back.
    brake_held: "steps with a replica held by a brake",
    /// Brakes that ended because enough nodes were back.
    brakes_ended: "brakes ended by return",
    /// Brakes that an operator released.
    brakes_released: "brakes released by an operator",
    /// Left-behind copies ordered to stop.
    revocations: "copies revoked",
    /// Copies that served and were stopped before the next one was there.
    taken_away: "copies stopped before the next was ready",
    /// Copies that served until the next one was ready.
    overlaps: "copies replaced by overlap",
    /// Nodes that operators cordoned or drained.
    drains: "nodes cordoned or drained",
    /// Clusters that operators drained.
    cluster_drains: "clusters drained",
    /// Steps of a lead with bandwidth reserved on links.
    links_reserved: "steps with bandwidth reserved on links",
    /// The same on its uplink.
    uplinks_reserved: "steps with bandwidth reserved on uplinks",
    /// The same with a link on which another channel has no room.
    links_full: "steps with a link that had no room for a channel",
    /// Mandates asked back.
    recalls: "recalls",
    /// Mandates that went back.
    handed_back: "mandates handed back",
    /// Replicas stopped by the guard.
    guard_kills: "copies stopped by the guard",
    /// Reservations refused or run out.
    reservations_closed: "reservations closed uncommitted",
    /// Messages given twice to a copy of a core.
    replays: "messages replayed to a copy",
    /// Recoveries compared with the snapshot's.
    recoveries: "recoveries compared",
}
