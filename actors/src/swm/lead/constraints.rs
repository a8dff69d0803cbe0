//! What an application demands of a node beside room and labels: levels, regions, spread, power, and links.
//!
//! **Links.** Each node has one link to the cluster's fabric, the cluster has one uplink. An ASSURED channel is reserved
//! at both ends, once for each copy of its two services: on the link of the copy's node as soon as a copy of the other
//! end is on another node, and on that link and the uplink where the home says that the other end may be in another
//! cluster. This is
//! the hose model (Duffield et al., «A flexible model for resource management in virtual private networks», SIGCOMM
//! 1999): who talks to whom need not be known, and each end can be judged alone. Capacities count both directions
//! together. A link without declared capacity carries no reservation.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use codeco_protocol::demands::{ClusterTraits, Level, PlaceRules, REGION_LABEL, ZONE_LABEL};
use codeco_protocol::ids::{AppUid, NodeId, ReplicaId, ServiceName};
use codeco_protocol::messages::{AppContext, NodeFacts, Obstacle};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::Token;
use codeco_protocol::units::{BitsPerSecond, MilliCpu, MilliWatts};
use codeco_protocol::workload::ChannelSpec;

use super::{Lead, LeadNote, LeadOutput, LeadRecord, Member};

/// A replica that looks for a node.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) replica: &'a ReplicaId,
    pub(super) context: &'a AppContext,
    pub(super) rules: &'a PlaceRules,
    pub(super) resources: &'a Resources,
    pub(super) refused: &'a BTreeSet<NodeId>,
    /// Replicas of the same bid, where they would go.
    pub(super) given: &'a [(&'a ReplicaId, NodeId, &'a Resources)],
    /// Whether its present copy is to serve until this one is ready.
    pub(super) beside: bool,
}

/// A copy on a node, or one that would be there.
#[derive(Clone, Copy)]
pub(super) struct Occupant<'a> {
    pub(super) replica: &'a ReplicaId,
    pub(super) node: NodeId,
    /// `None` for one of the same bid.
    pub(super) token: Option<Token>,
    pub(super) resources: &'a Resources,
    /// Whether it only serves until another one is ready.
    pub(super) outgoing: bool,
    /// The channels it was placed with.
    channels: &'a [ChannelSpec],
    /// Whether something is reserved for it on the uplink.
    uplink: bool,
}

/// What a replica would draw on a node: the part of the node's power at full load that its processor request is of the
/// node's processor. Idle power is shared alike, so that the parts of all replicas of a full node make its whole power.
#[must_use]
pub fn power_of(facts: &NodeFacts, cpu: MilliCpu) -> Option<MilliWatts> {
    let (_, full) = facts.power?;
    let all = u128::from(facts.capacity.cpu.0);
    let part = (u128::from(full.0) * u128::from(cpu.0)).checked_div(all)?;
    Some(MilliWatts(u64::try_from(part).unwrap_or(u64::MAX)))
}

/// What a replica costs on a node in an hour, in thousandths of the operator's unit of money.
pub(super) fn cost_of(facts: &NodeFacts, cpu: MilliCpu) -> Option<u64> {
    facts.traits.cost.map(|core| core.saturating_mul(cpu.0) / 1_000)
}

fn label<'a>(facts: &'a NodeFacts, key: &str) -> Option<&'a str> {
    facts.labels.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

impl Lead {
    /// Every copy there is or would be, but for those of `except`.
    pub(super) fn occupants<'a>(&'a self, wanted: &Wanted<'a>) -> Vec<Occupant<'a>> {
        let context = wanted.context;
        let given = wanted.given.iter().map(|(replica, node, resources)| Occupant {
            replica,
            node: *node,
            token: None,
            resources,
            outgoing: false,
            channels: &context.channels,
            uplink: wanted.rules.uplink.0 > 0,
        });
        // A copy of its own that serves until this one is ready keeps its part of links until then.
        let others = self.placed().filter_map(|other| {
            let present = other.replica == wanted.replica && !other.outgoing;
            match (present, wanted.beside) {
                (true, false) => None,
                (true, true) => Some(Occupant { outgoing: true, ..other }),
                (false, _) => Some(other),
            }
        });
        others.chain(given).collect()
    }

    fn placed(&self) -> impl Iterator<Item = Occupant<'_>> {
        self.mandates.iter().flat_map(|(replica, m)| {
            let occupant = move |node, token, resources, channels, outgoing| Occupant {
                replica,
                node,
                token: Some(token),
                resources,
                outgoing,
                channels,
                uplink: m.rules.uplink.0 > 0,
            };
            let present = m
                .stage
                .placement()
                .map(|p| occupant(p.node, p.token, &m.spec.resources, m.placed_channels.as_slice(), false));
            let outgoing = m
                .outgoing
                .as_ref()
                .map(|o| occupant(o.placement.node, o.placement.token, o.resources(), o.channels(), true));
            present.into_iter().chain(outgoing)
        })
    }

    /// What stands against a node that has room and the labels wanted, as far as the application's demands go.
    pub(super) fn demand_obstacle(
        &self,
        wanted: &Wanted<'_>,
        node: NodeId,
        member: &Member,
        occupants: &[Occupant<'_>],
    ) -> Option<Obstacle> {
        let facts = member.facts.as_ref()?;
        let demands = &wanted.context.demands;
        level("securityClass", demands.security, facts.traits.security)
            .or_else(|| level("complianceClass", demands.compliance, facts.traits.compliance))
            .or_else(|| region(facts, wanted.rules))
            .or_else(|| self.spread_obstacle(wanted, node, facts, occupants))
            .or_else(|| power(wanted, facts))
            .or_else(|| self.link_obstacle(wanted, node, occupants))
    }

    fn spread_obstacle(
        &self,
        wanted: &Wanted<'_>,
        node: NodeId,
        facts: &NodeFacts,
        occupants: &[Occupant<'_>],
    ) -> Option<Obstacle> {
        let (limits, replica) = (&wanted.rules.spread, wanted.replica);
        if limits.is_empty() {
            return None;
        }
        let same = |other: &&Occupant<'_>| {
            other.replica.app == replica.app && other.replica.service == replica.service && !other.outgoing
        };
        let reached = |place: String, there: u32, most: Option<u32>| {
            most.filter(|most| there >= *most).map(|most| Obstacle::Spread { place, there, most })
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let copies = || occupants.iter().filter(same);
        let here = count(copies().filter(|other| other.node == node).count());
        reached("node".into(), here, limits.per_node)
            // Others of the same bid may go to other clusters: how many come here is the home's to say.
            .or_else(|| {
                let held = copies().filter(|other| other.token.is_some());
                reached("cluster".into(), count(held.count()), limits.per_cluster)
            })
            .or_else(|| {
                let most = limits.per_zone?;
                // A node whose zone is not known may be in any: it is not counted as a zone of its own.
                let Some(zone) = label(facts, ZONE_LABEL) else {
                    return Some(Obstacle::Label { key: ZONE_LABEL.into(), value: "(any)".into() });
                };
                let zone_of = |node: NodeId| label(self.members.get(&node)?.facts.as_ref()?, ZONE_LABEL);
                let inside = count(copies().filter(|other| zone_of(other.node) == Some(zone)).count());
                let elsewhere =
                    wanted.rules.zones_elsewhere.iter().find(|(name, _)| name == zone).map_or(0, |(_, n)| *n);
                reached(format!("zone {zone}"), inside.saturating_add(elsewhere), Some(most))
            })
    }

    /// What the links of the cluster lack for `wanted` to be on `node`.
    fn link_obstacle(
        &self,
        wanted: &Wanted<'_>,
        node: NodeId,
        occupants: &[Occupant<'_>],
    ) -> Option<Obstacle> {
        let context = wanted.context;
        if !context.channels.iter().any(|channel| channel.reserves().is_some()) {
            return None;
        }
        if wanted.rules.uplink.0 > 0
            && let Some(obstacle) = self.uplink_obstacle(wanted.replica, wanted.rules.uplink)
        {
            return Some(obstacle);
        }
        let before = usage(occupants.iter());
        let new = Occupant {
            replica: wanted.replica,
            node,
            token: None,
            resources: wanted.resources,
            outgoing: false,
            channels: &context.channels,
            uplink: wanted.rules.uplink.0 > 0,
        };
        self.lacking_link(&before, &usage(occupants.iter().chain([&new])))
    }

    /// The first link that more would be reserved on than before, and that has no room for it.
    fn lacking_link(
        &self,
        before: &BTreeMap<NodeId, BitsPerSecond>,
        after: &BTreeMap<NodeId, BitsPerSecond>,
    ) -> Option<Obstacle> {
        after.iter().find_map(|(at, used)| {
            let known = before.get(at).copied().unwrap_or_default();
            if *used <= known {
                return None;
            }
            let member = self.members.get(at)?;
            let free = member.facts.as_ref().and_then(|facts| facts.traits.link);
            let free = free.map(|capacity| capacity.saturating_sub(known));
            let (wanted, link) = (used.saturating_sub(known), format!("link of {}", member.name));
            free.is_none_or(|free| wanted > free).then_some(Obstacle::Link { link, wanted, free })
        })
    }

    /// What the uplink lacks for `replica` to have `wanted` of it.
    pub(super) fn uplink_obstacle(&self, replica: &ReplicaId, wanted: BitsPerSecond) -> Option<Obstacle> {
        let others = self.uplink_reserved(Some(replica));
        let free = self.config.uplink.map(|capacity| capacity.saturating_sub(others));
        let link = format!("uplink of {}", self.config.cluster);
        free.is_none_or(|free| wanted > free).then_some(Obstacle::Link { link, wanted, free })
    }

    fn uplink_reserved(&self, except: Option<&ReplicaId>) -> BitsPerSecond {
        self.mandates
            .iter()
            .filter(|(replica, m)| {
                Some(*replica) != except && (m.stage.placement().is_some() || m.outgoing.is_some())
            })
            .map(|(_, m)| m.rules.uplink)
            .sum()
    }

    /// `rules` as they can be granted to a replica that has a node: its part of the uplink grows only as far as there is
    /// room, on the uplink and on the links of the nodes of all its copies, one that is about to be replaced among them.
    pub(super) fn granted(&self, replica: &ReplicaId, rules: PlaceRules) -> PlaceRules {
        let Some(m) = self.mandates.get(replica) else { return rules };
        if m.present().is_none() || rules.uplink <= m.rules.uplink {
            return rules;
        }
        let placed: Vec<Occupant<'_>> = self.placed().collect();
        let before = usage(placed.iter());
        let grown: Vec<Occupant<'_>> = placed
            .into_iter()
            .map(|other| Occupant { uplink: other.uplink || other.replica == replica, ..other })
            .collect();
        let fits = self.uplink_obstacle(replica, rules.uplink).is_none()
            && self.lacking_link(&before, &usage(grown.iter())).is_none();
        if fits { rules } else { PlaceRules { uplink: m.rules.uplink, ..rules } }
    }

    /// Links and uplink on which more is reserved than they have, for checkers: never any (invariant I7). A capacity
    /// that an operator has lowered below what was reserved shows here until copies have moved.
    #[must_use]
    pub fn overbooked_links(&self) -> Vec<String> {
        let placed: Vec<Occupant<'_>> = self.placed().collect();
        let mut over: Vec<String> = usage(placed.iter())
            .into_iter()
            .filter_map(|(node, used)| {
                let member = self.members.get(&node)?;
                let capacity = member.facts.as_ref()?.traits.link.unwrap_or_default();
                (used > capacity).then(|| format!("link of {}: {used} of {capacity}", member.name))
            })
            .collect();
        let (used, capacity) = (self.uplink_reserved(None), self.config.uplink.unwrap_or_default());
        if used > capacity {
            over.push(format!("uplink of {}: {used} of {capacity}", self.config.cluster));
        }
        over
    }

    /// A copy that was found running is given its part of links again, if others have not got it meanwhile: nobody asked
    /// before it came back, and a link is not promised twice.
    pub(super) fn reserve_for_adopted(&mut self, replica: &ReplicaId, out: &mut Vec<LeadOutput>) {
        let Some(m) = self.mandates.get_mut(replica) else { return };
        let uplink = std::mem::take(&mut m.rules.uplink);
        m.placed_channels.clear();
        let without = self.overbooked_links();
        let Some(m) = self.mandates.get_mut(replica) else { return };
        m.rules.uplink = uplink;
        m.placed_channels.clone_from(&m.context.channels);
        let with = self.overbooked_links();
        let Some(over) = with.into_iter().find(|link| !without.contains(link)) else { return };
        let Some(m) = self.mandates.get_mut(replica) else { return };
        m.placed_channels.clear();
        if uplink.0 > 0 {
            let rules = PlaceRules { uplink: BitsPerSecond(0), ..m.rules.clone() };
            let context = m.context.clone();
            self.record(LeadRecord::Amended { replica: replica.clone(), context, rules }, out);
        }
        out.push(LeadOutput::Note(LeadNote::Unassured(replica.clone(), over)));
    }

    /// What is reserved on each node's link now.
    #[must_use]
    pub fn link_reservations(&self) -> BTreeMap<NodeId, BitsPerSecond> {
        let placed: Vec<Occupant<'_>> = self.placed().collect();
        usage(placed.iter())
    }

    /// What this lead declares about its cluster.
    #[must_use]
    pub fn traits(&self) -> ClusterTraits {
        let facts = || self.members.values().filter(|m| !m.lost).filter_map(|m| m.facts.as_ref());
        let zone = |facts: &NodeFacts| Some((facts.name.clone(), label(facts, ZONE_LABEL)?.to_owned()));
        ClusterTraits {
            uplink: self.config.uplink,
            uplink_reserved: self.uplink_reserved(None),
            power: facts().filter_map(|f| f.power).map(|(_, full)| full).reduce(|sum, full| sum + full),
            zones: facts().filter_map(zone).collect(),
        }
    }
}

/// What occupants reserve on the link of each node.
fn usage<'a>(occupants: impl Iterator<Item = &'a Occupant<'a>> + Clone) -> BTreeMap<NodeId, BitsPerSecond> {
    let has_channels = |o: &&Occupant<'_>| o.channels.iter().any(|channel| channel.reserves().is_some());
    let mut nodes_of: BTreeMap<(AppUid, &ServiceName), Vec<NodeId>> = BTreeMap::new();
    for occupant in occupants.clone().filter(has_channels) {
        let key = (occupant.replica.app, &occupant.replica.service);
        nodes_of.entry(key).or_default().push(occupant.node);
    }
    let mut used: BTreeMap<NodeId, BitsPerSecond> = BTreeMap::new();
    for occupant in occupants.filter(has_channels) {
        let replica = occupant.replica;
        for channel in occupant.channels {
            let (Some(bandwidth), Some(other)) = (channel.reserves(), channel.other_end(&replica.service))
            else {
                continue;
            };
            let ends = nodes_of.get(&(replica.app, other)).map_or(&[][..], Vec::as_slice);
            let beside = ends.iter().any(|node| *node != occupant.node);
            // What was granted of the uplink is reserved on the way to it too, also while the other end is still here: it
            // may leave any time, and then nobody is asked.
            if beside || occupant.uplink {
                *used.entry(occupant.node).or_default() += bandwidth;
            }
        }
    }
    used
}

fn level(field: &str, wanted: Level, declared: Option<Level>) -> Option<Obstacle> {
    // None and Low demand nothing a node must say.
    if wanted <= Level::Low || declared.is_some_and(|declared| declared >= wanted) {
        return None;
    }
    Some(Obstacle::Level { field: field.to_owned(), wanted, declared })
}

fn region(facts: &NodeFacts, rules: &PlaceRules) -> Option<Obstacle> {
    let allowed = &rules.regions;
    if allowed.is_empty() {
        return None;
    }
    let region = label(facts, REGION_LABEL).map(str::to_owned).or_else(|| rules.cluster_region.clone());
    if region.as_ref().is_some_and(|region| allowed.contains(region)) {
        return None;
    }
    Some(Obstacle::Region { region, allowed: allowed.clone() })
}

fn power(wanted: &Wanted<'_>, facts: &NodeFacts) -> Option<Obstacle> {
    let most = wanted.rules.power_max?;
    let draws = power_of(facts, wanted.resources.cpu);
    draws.is_none_or(|draws| draws > most).then_some(Obstacle::Power { draws, most })
}
