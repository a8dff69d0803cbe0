//! What an application demands of a cluster beside room and labels, and what a home tells leads about it.
//!
//! **Energy.** The limit is split over the application's copies by the processor they ask for, so that every place can be
//! judged alone, also by a lead that is cut off; the sum of the parts is the limit.
//!
//! **Uplinks.** The ends of an ASSURED channel stay in one cluster, whose fabric its lead knows, unless both ends have
//! their part reserved on their clusters' uplinks: first the end that is placed (asked for when the other end finds no
//! place beside it), then the other. So no uplink is promised twice, whoever else uses it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::demands::{PlaceRules, Priority, REGION_LABEL};
use codeco_protocol::ids::{ClusterName, ServiceName};
use codeco_protocol::messages::Obstacle;
use codeco_protocol::units::{BitsPerSecond, BootTime, MilliWatts};
use codeco_protocol::workload::ChannelSpec;

use super::{App, ClusterFacts, Home, HomeMandate, ServiceSpec};

/// What a replica has of its cluster's uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UplinkShare {
    /// As its lead last said.
    pub granted: BitsPerSecond,
    /// What is asked for so that the other ends of its channels may be placed elsewhere.
    pub(super) wanted: BitsPerSecond,
}

type Key = (ServiceName, u32);

impl App {
    /// Copies of `service` that a cluster has, or would have.
    fn holders<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = (&'a Key, &'a HomeMandate)> {
        self.replicas
            .iter()
            .filter(move |((name, _), _)| name == service)
            .filter_map(|(key, replica)| Some((key, replica.mandate.as_ref()?)))
    }

    /// What a copy of `service` in `cluster` needs of the uplink there: the bandwidth of each ASSURED channel whose other
    /// end has a copy in another cluster, or would have (`also`: a service, and the cluster it would be in).
    fn uplink_need(
        &self,
        service: &ServiceName,
        cluster: &ClusterName,
        also: Option<(&ServiceName, &ClusterName)>,
    ) -> BitsPerSecond {
        let leaves = |other: &ServiceName| {
            self.holders(other)
                .any(|(key, held)| held.cluster != *cluster && !self.will_follow(service, key, held))
                || also.is_some_and(|(name, there)| name == other && there != cluster)
        };
        self.spec
            .context
            .channels
            .iter()
            .filter(|channel| channel.other_end(service).is_some_and(&leaves))
            .filter_map(ChannelSpec::reserves)
            .sum()
    }

    /// Whether a copy is to be replaced, and follows the copies of `leader`: it goes where they are, and does not hold
    /// them where it is.
    pub(super) fn will_follow(&self, leader: &ServiceName, key: &Key, held: &HomeMandate) -> bool {
        let Some(service) = self.spec.services.iter().find(|s| s.name == key.0) else { return false };
        let outdated = held.accepted.as_ref().is_some_and(|(at, ..)| *at < service.spec.generation);
        outdated && self.leaders(service).any(|of| of.name == *leader)
    }

    /// Services of which some copy is to follow those of `leader`.
    fn followers_of(&self, leader: &ServiceName) -> Vec<ServiceName> {
        let services = self.spec.services.iter();
        services
            .filter(|s| self.holders(&s.name).any(|(key, held)| self.will_follow(leader, key, held)))
            .map(|s| s.name.clone())
            .collect()
    }

    fn leaders<'a>(&'a self, service: &'a ServiceSpec) -> impl Iterator<Item = &'a ServiceSpec> {
        leaders_of(&self.spec.services, &self.spec.context.channels, service)
    }

    /// Whether a service follows others.
    pub(super) fn is_follower(&self, service: &ServiceName) -> bool {
        let service = self.spec.services.iter().find(|s| s.name == *service);
        service.is_some_and(|service| self.leaders(service).next().is_some())
    }

    /// A service that follows others and has none to go to yet: the first of those without a node.
    pub(super) fn awaits(&self, service: &ServiceName) -> Option<&ServiceName> {
        let service = self.spec.services.iter().find(|s| s.name == *service)?;
        let placed = |of: &&ServiceSpec| self.holders(&of.name).any(|(_, held)| held.accepted.is_some());
        self.leaders(service).find(|of| of.replicas > 0 && !placed(of)).map(|of| &of.name)
    }

    /// Who is served first.
    pub(super) fn priority(&self) -> Priority {
        self.spec.context.demands.priority
    }
}

impl Home {
    /// What the lead of `facts` is told about the place of a replica.
    pub(super) fn rules_for(
        &self,
        app: &App,
        key: &Key,
        service: &ServiceSpec,
        facts: &ClusterFacts,
    ) -> PlaceRules {
        let held = app.replicas.get(key).and_then(|r| r.mandate.as_ref()).filter(|h| h.cluster == facts.name);
        let asked = held.map_or(BitsPerSecond(0), |held| held.uplink.wanted);
        PlaceRules {
            spread: service.spread,
            regions: service.regions.clone(),
            zones_elsewhere: self.zones_elsewhere(app, service, &facts.name),
            power_max: self.power_part(app, service),
            cluster_region: facts.labels.get(REGION_LABEL).cloned(),
            uplink: app.uplink_need(&key.0, &facts.name, None).max(asked),
            followers: app.followers_of(&key.0),
        }
    }

    fn zones_elsewhere(&self, app: &App, service: &ServiceSpec, here: &ClusterName) -> Vec<(String, u32)> {
        let mut zones = std::collections::BTreeMap::<String, u32>::new();
        if service.spread.per_zone.is_none() {
            return Vec::new();
        }
        for (_, held) in app.holders(&service.name).filter(|(_, held)| held.cluster != *here) {
            let node = held.accepted.as_ref().map(|(_, node, _)| node);
            let traits = self.clusters.get(&held.cluster).map(|facts| &facts.traits);
            let zone =
                node.zip(traits).and_then(|(node, traits)| traits.zones.iter().find(|(n, _)| n == node));
            if let Some((_, zone)) = zone {
                *zones.entry(zone.clone()).or_default() += 1;
            }
        }
        zones.into_iter().collect()
    }

    /// Power at full load of all nodes known that declare it.
    #[must_use]
    pub fn fleet_power(&self) -> MilliWatts {
        self.clusters.values().filter_map(|facts| facts.traits.power).sum()
    }

    /// One copy's part of what the application may draw.
    fn power_part(&self, app: &App, service: &ServiceSpec) -> Option<MilliWatts> {
        let percent = u128::from(app.spec.context.demands.energy_limit_percent?);
        let all: u128 = app
            .spec
            .services
            .iter()
            .map(|s| u128::from(s.spec.resources.cpu.0) * u128::from(s.replicas))
            .sum();
        let limit = u128::from(self.fleet_power().0) * percent / 100;
        let part = (limit * u128::from(service.spec.resources.cpu.0)).checked_div(all).unwrap_or(limit);
        Some(MilliWatts(u64::try_from(part).unwrap_or(u64::MAX)))
    }

    /// What stands against a whole cluster. `planning`: what could be reserved counts as reserved.
    pub(super) fn cluster_obstacle(
        &self,
        app: &App,
        key: &Key,
        service: &ServiceSpec,
        facts: &ClusterFacts,
        planning: bool,
    ) -> Option<Obstacle> {
        let there = app.holders(&key.0).filter(|(k, held)| *k != key && held.cluster == facts.name).count();
        let there = u32::try_from(there).unwrap_or(u32::MAX);
        if let Some(most) = service.spread.per_cluster.filter(|most| there >= *most) {
            return Some(Obstacle::Spread { place: "cluster".into(), there, most });
        }
        self.uplink_obstacle(app, key, facts, planning).map(|(obstacle, _)| obstacle)
    }

    /// What the uplinks lack for a replica to be in a cluster, and whether that could be asked for.
    fn uplink_obstacle(
        &self,
        app: &App,
        key: &Key,
        facts: &ClusterFacts,
        planning: bool,
    ) -> Option<(Obstacle, bool)> {
        let need = app.uplink_need(&key.0, &facts.name, None);
        if need.0 == 0 {
            return None;
        }
        let lacks = |of: &ClusterFacts, wanted: BitsPerSecond, extra: BitsPerSecond| {
            let free = of.traits.uplink_free();
            let link = format!("uplink of {}", of.name);
            free.is_none_or(|free| extra > free).then_some(Obstacle::Link { link, wanted, free })
        };
        if let Some(obstacle) = lacks(facts, need, need) {
            return Some((obstacle, false));
        }
        for channel in app.spec.context.channels.iter().filter(|channel| channel.reserves().is_some()) {
            let Some(other) = channel.other_end(&key.0) else { continue };
            for (at, held) in app.holders(other).filter(|(_, held)| held.cluster != facts.name) {
                let wanted = app.uplink_need(&at.0, &held.cluster, Some((&key.0, &facts.name)));
                let extra = wanted.saturating_sub(held.uplink.granted);
                if extra.0 == 0 {
                    continue;
                }
                let there = self.clusters.get(&held.cluster);
                if let Some(obstacle) = there.and_then(|there| lacks(there, extra, extra)) {
                    return Some((obstacle, false));
                }
                if !planning {
                    let text = format!(
                        "channel {} is ASSURED: {extra} for {}-{} is yet to be reserved on the uplink of {}",
                        channel.name, at.0, at.1, held.cluster
                    );
                    return Some((Obstacle::Other(text), true));
                }
            }
        }
        None
    }

    /// Nothing was found for a replica: where only a reservation on other ends' uplinks is missing, it is asked for.
    pub(super) fn ask_for_uplinks(&mut self, key: &Key, uid: codeco_protocol::ids::AppUid) {
        let Some(app) = self.apps.get(&uid) else { return };
        let mut asks = Vec::new();
        for facts in self.clusters.values().filter(|facts| facts.reachable) {
            let askable = self.uplink_obstacle(app, key, facts, false).is_some_and(|(_, askable)| askable);
            if !askable {
                continue;
            }
            for channel in app.spec.context.channels.iter().filter(|channel| channel.reserves().is_some()) {
                let Some(other) = channel.other_end(&key.0) else { continue };
                for (at, held) in app.holders(other).filter(|(_, held)| held.cluster != facts.name) {
                    let wanted = app.uplink_need(&at.0, &held.cluster, Some((&key.0, &facts.name)));
                    asks.push((at.clone(), wanted));
                }
            }
        }
        let Some(app) = self.apps.get_mut(&uid) else { return };
        for (at, wanted) in asks {
            let held = app.replicas.get_mut(&at).and_then(|replica| replica.mandate.as_mut());
            if let Some(held) = held.filter(|held| held.uplink.wanted < wanted) {
                held.uplink.wanted = wanted;
                (held.next_send, held.ask_again) = (BootTime(0), BootTime(0));
            }
        }
    }

    /// A replica has found its place: what was asked for on its behalf is what its channels need now.
    pub(super) fn settle_uplinks(&mut self, key: &Key, uid: codeco_protocol::ids::AppUid) {
        let Some(app) = self.apps.get_mut(&uid) else { return };
        let others: Vec<ServiceName> = app
            .spec
            .context
            .channels
            .iter()
            .filter_map(|channel| channel.other_end(&key.0).cloned())
            .collect();
        for ((service, _), replica) in &mut app.replicas {
            if let Some(held) = replica.mandate.as_mut().filter(|_| others.contains(service)) {
                held.uplink.wanted = BitsPerSecond(0);
            }
        }
    }

    /// Whether a copy is where its (changed) specification does not want it: its cluster lacks a label, or is too far
    /// from the other end of an ASSURED channel, or has no uplink for it.
    pub(super) fn is_misplaced(&self, app: &App, key: &Key, held: &HomeMandate) -> bool {
        let service = app.spec.services.iter().find(|s| s.name == key.0);
        let (Some(service), Some(facts)) = (service, self.clusters.get(&held.cluster)) else { return false };
        let lacks = service.cluster_selector.iter().any(|(key, value)| facts.labels.get(key) != Some(value));
        let far = self.partners(app, &key.0, facts).iter().any(|partner| {
            let limit = partner.limit.filter(|_| partner.assured);
            // An estimate is no reason to move what runs.
            let measured = partner.delay.filter(|delay| !delay.estimated);
            limit.is_some_and(|limit| measured.is_some_and(|delay| delay.one_way > limit))
        });
        lacks || far || self.uplink_obstacle(app, key, facts, false).is_some()
    }
}

/// Whether copies of `service` go where those of another service are: it has an ASSURED channel with a limit of delay to
/// one that is bound to places by labels, and has no labels of its own.
pub(super) fn leaders_of<'a>(
    services: &'a [ServiceSpec],
    channels: &'a [ChannelSpec],
    service: &'a ServiceSpec,
) -> impl Iterator<Item = &'a ServiceSpec> {
    let bound = |s: &ServiceSpec| !s.node_selector.is_empty() || !s.cluster_selector.is_empty();
    let free = !bound(service);
    channels
        .iter()
        .filter(move |channel| free && channel.assured && channel.delay_max.is_some())
        .filter_map(|channel| channel.other_end(&service.name))
        .filter_map(|other| services.iter().find(|s| s.name == *other))
        .filter(move |other| bound(other))
}
