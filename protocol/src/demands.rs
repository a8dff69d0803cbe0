//! What an application demands of the places it runs on, and what places declare about themselves, as machines pass it
//! on. Made from the manifest by the hub; the meaning of each field for users is in `docs/application-model.md`.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};

use crate::ids::ServiceName;
use crate::units::{BitsPerSecond, Micros, MilliWatts};

/// Label of the region a node or a cluster is in, as in Kubernetes.
pub const REGION_LABEL: &str = "topology.kubernetes.io/region";
/// Label of the zone a node is in, as in Kubernetes.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Most regions a service may name.
pub const REGIONS_MAX: usize = 16;

/// A declared level, of security, compliance or portability. The declaration is an operator's word; nothing measures it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub enum Level {
    /// None; demands nothing.
    #[default]
    None,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// Good: above medium.
    Good,
    /// High.
    High,
}

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Self; 5] = [Self::None, Self::Low, Self::Medium, Self::Good, Self::High];

    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::Good => "Good",
            Self::High => "High",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Level {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|level| level.word().eq_ignore_ascii_case(text)).ok_or(())
    }
}

/// Who is served first where there is not room for all. Nothing that runs is stopped for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub enum Priority {
    /// With what is left.
    #[default]
    BestEffort,
    /// Before best effort.
    Silver,
    /// First.
    Gold,
}

/// How much keeping copies of a service apart weighs, beyond what the profile says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub enum Apart {
    /// As the profile weighs it.
    #[default]
    Profile,
    /// Much, among the nodes of a cluster.
    Nodes,
    /// Much, among clusters, and among the nodes of each.
    Clusters,
}

/// What an application demands of all its places.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct Demands {
    /// Who is served first.
    pub priority: Priority,
    /// Lowest level of security a node must declare.
    pub security: Level,
    /// Lowest level of compliance a node must declare.
    pub compliance: Level,
    /// How much keeping copies apart weighs.
    pub apart: Apart,
    /// Per cent of the fleet's power at full load that all its copies may draw together; `None` is no limit.
    pub energy_limit_percent: Option<u8>,
    /// Copies wanted of each service, so that a lead knows how many are elsewhere.
    pub copies: Vec<(ServiceName, u32)>,
    /// How long its home may be silent before another member that keeps a copy of it becomes its home; `None` is for ever.
    pub adopt_after: Option<Micros>,
}

/// Most copies of one service in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct SpreadLimits {
    /// On one node.
    pub per_node: Option<u32>,
    /// In one cluster.
    pub per_cluster: Option<u32>,
    /// In one zone ([`ZONE_LABEL`] of the node).
    pub per_zone: Option<u32>,
}

impl SpreadLimits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a home tells a lead about the place of one replica. Everything in it can be judged by the lead alone, also
/// while it is cut off.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct PlaceRules {
    /// Most copies of its service in one place.
    pub spread: SpreadLimits,
    /// Regions it may be in; empty is anywhere.
    pub regions: Vec<String>,
    /// Copies of its service that are in a zone, in other clusters.
    pub zones_elsewhere: Vec<(String, u32)>,
    /// This replica's part of what its application may draw; `None` is no limit. Zero where the fleet's power is not
    /// known.
    pub power_max: Option<MilliWatts>,
    /// The region of the cluster, as its labels say.
    pub cluster_region: Option<String>,
    /// Bandwidth of its ASSURED channels that may have to leave the cluster: reserved on the cluster's uplink.
    pub uplink: BitsPerSecond,
    /// Services whose copies are to be placed anew after it, where it is: they do not hold it where they are.
    pub followers: Vec<ServiceName>,
}

/// What a node declares beside its resources and labels. `None` is unknown, which is never read as free or enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct NodeTraits {
    /// Level of security.
    pub security: Option<Level>,
    /// Level of compliance.
    pub compliance: Option<Level>,
    /// Level of portability: how easily work moves off it.
    pub portability: Option<Level>,
    /// Price of one core for one hour, in thousandths of the unit of money the operator counts in.
    pub cost: Option<u64>,
    /// Capacity of its link to the cluster's fabric, both directions together.
    pub link: Option<BitsPerSecond>,
}

/// What a lead declares about its cluster as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct ClusterTraits {
    /// Capacity of the cluster's uplink, both directions together.
    pub uplink: Option<BitsPerSecond>,
    /// What ASSURED channels have reserved of it.
    pub uplink_reserved: BitsPerSecond,
    /// Power at full load of the nodes that declare it, together.
    pub power: Option<MilliWatts>,
    /// Zones of its nodes, by name, where they have one.
    pub zones: Vec<(crate::ids::NodeName, String)>,
}

impl ClusterTraits {
    /// What is left of the uplink; `None` if its capacity is not known.
    #[must_use]
    pub fn uplink_free(&self) -> Option<BitsPerSecond> {
        self.uplink.map(|capacity| capacity.saturating_sub(self.uplink_reserved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_read_from_its_word_is_itself_and_levels_are_ordered() {
        for level in Level::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("good".parse(), Ok(Level::Good));
        assert!("best".parse::<Level>().is_err());
        assert!(Level::None < Level::Low && Level::Medium < Level::Good && Level::Good < Level::High);
    }

    #[test]
    fn uplink_without_declared_capacity_has_nothing_known_to_be_free() {
        assert_eq!(ClusterTraits::default().uplink_free(), None);
        let traits = ClusterTraits {
            uplink: Some(BitsPerSecond(10)),
            uplink_reserved: BitsPerSecond(12),
            ..Default::default()
        };
        assert_eq!(traits.uplink_free(), Some(BitsPerSecond(0)));
    }
}
