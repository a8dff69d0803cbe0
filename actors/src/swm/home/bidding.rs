//! Asking clusters for bids, and choosing among them.
//!
//! Summaries are stale, so they only filter and weigh whom to ask: a random sample, weighted by free share, because
//! everybody asking the stale best makes refusals explode (Mitzenmacher, «How useful is old information?», 2000).
//! Live bids decide.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use codeco_protocol::demands::{Apart, Priority};
use codeco_protocol::ids::{AppUid, ClusterName, NodeName, ReplicaId, ServiceName};
use codeco_protocol::messages::{BidLine, ControlMessage, Demand, Obstacle};
use codeco_protocol::token::MandateId;
use codeco_protocol::units::{BootTime, Micros};

use super::{App, ClusterFacts, Home, HomeNote, HomeOutput, HomeRecord, ServiceSpec};
use crate::netma::Delay;
use crate::swm::decision::{Decision, Level, intents_told};
use crate::swm::feasibility;
use crate::swm::score::{self, Partner, Ranking, Site, Weighing};

/// Time before a replica that no cluster can take is tried again, in the end.
const RETRY: Micros = Micros::from_secs(1);
/// And at first: what it waits for is often under way, such as the place of its peers or the first measurement of a
/// link. Doubles with each try.
const RETRY_FIRST: Micros = Micros(RETRY.0 / 20);

/// One round of bids for an application.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bidding {
    pub(super) request: u64,
    pub(super) asked: BTreeSet<ClusterName>,
    pub(super) answers: BTreeMap<ClusterName, Vec<BidLine>>,
    pub(super) wanted: Vec<(ServiceName, u32)>,
    pub(super) until: BootTime,
}

impl Home {
    pub(super) fn ask_for_bids(&mut self, now: BootTime, out: &mut Vec<HomeOutput>) {
        let is_due =
            |app: &App| !app.deleting && app.bidding.is_none() && self.due(app, now).next().is_some();
        let Some(lowest) = self.apps.values().filter(|app| is_due(app)).map(App::priority).min() else {
            return;
        };
        self.pull_forward(now, lowest);
        let mut due: Vec<(Reverse<Priority>, AppUid)> = self
            .apps
            .iter()
            .filter(|(_, app)| !app.deleting && app.bidding.is_none() && self.due(app, now).next().is_some())
            .map(|(uid, app)| (Reverse(app.priority()), *uid))
            .collect();
        due.sort_unstable();
        for (priority, uid) in due {
            // Where there is not room for all, those of a higher class come first.
            let first = self.apps.values().any(|app| app.bidding.is_some() && app.priority() > priority.0);
            if !first {
                self.ask_for(now, uid, out);
            }
        }
    }

    /// Replicas of a higher class than `lowest` that wait for room ask (again) before those of a lower one, at most four
    /// times in the usual pause.
    fn pull_forward(&mut self, now: BootTime, lowest: Priority) {
        for app in self.apps.values_mut().filter(|app| app.priority() > lowest) {
            for replica in app.replicas.values_mut() {
                let since = (now + replica.pause).since(replica.next_try);
                let asked_lately = since.0 < RETRY.0 / 4;
                if replica.mandate.is_none() && replica.waiting.is_some() && !asked_lately {
                    replica.next_try = replica.next_try.min(now);
                }
            }
        }
    }

    fn ask_for(&mut self, now: BootTime, uid: AppUid, out: &mut Vec<HomeOutput>) {
        let request = self.next_request;
        let bidders = self.sample_bidders(request);
        let (bid_wait, bidders_none) = (self.config.bid_wait, bidders.is_empty());
        let known = self.clusters.len();
        let Some(app) = self.apps.get(&uid) else { return };
        let (wanted, early): (Vec<(ServiceName, u32)>, Vec<_>) =
            self.due(app, now).cloned().partition(|key| app.awaits(&key.0).is_none());
        let early: Vec<_> = early
            .into_iter()
            .filter_map(|key| Some((app.awaits(&key.0)?.clone(), key)))
            .map(|(leader, key)| (key, format!("waits for {leader}, which it follows, to have a node")))
            .collect();
        let Some(app) = self.apps.get_mut(&uid) else { return };
        for (key, why) in early {
            if let Some(replica) = app.replicas.get_mut(&key) {
                replica.waiting = Some(why);
                replica.next_try = now + Micros(RETRY.0 / 10);
            }
        }
        if wanted.is_empty() {
            return;
        }
        if bidders_none {
            for key in &wanted {
                if let Some(replica) = app.replicas.get_mut(key) {
                    replica.waiting = Some(if known == 0 {
                        "no cluster has joined yet".into()
                    } else {
                        format!("none of {known} clusters can be reached")
                    });
                    replica.next_try = now + Micros(RETRY.0 / 4);
                }
            }
            return;
        }
        self.next_request += 1;
        let asked = bidders.iter().map(|facts| facts.name.clone()).collect();
        let keys = wanted.clone();
        app.bidding =
            Some(Bidding { request, asked, answers: BTreeMap::new(), wanted, until: now + bid_wait });
        let Some(app) = self.apps.get(&uid) else { return };
        for facts in bidders {
            let demands = self.demands_of(app, uid, &keys, &facts);
            let context = app.spec.context.clone();
            let message = ControlMessage::BidRequest { request, context, demands };
            out.push(HomeOutput::Send { to: facts.lead, message });
        }
    }

    /// Replicas that want a cluster now, or another one.
    fn due<'a>(&'a self, app: &'a App, now: BootTime) -> impl Iterator<Item = &'a (ServiceName, u32)> {
        app.replicas
            .iter()
            .filter(move |(key, replica)| {
                replica.next_try <= now
                    && app.wants(&key.0, key.1)
                    && (replica.mandate.is_none() || self.wants_to_migrate(app, key))
            })
            .map(|(key, _)| key)
    }

    /// Up to `bidders_max` reachable clusters, drawn without replacement with weights by free share.
    pub(super) fn sample_bidders(&self, request: u64) -> Vec<ClusterFacts> {
        let mut rng =
            fastrand::Rng::with_seed(self.config.seed ^ request.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut pool: Vec<&ClusterFacts> = self
            .clusters
            .values()
            .filter(|facts| facts.reachable && !self.drained.contains(&facts.name))
            .collect();
        let mut drawn = Vec::new();
        while drawn.len() < self.config.bidders_max && !pool.is_empty() {
            let weights: Vec<f64> = pool.iter().map(|facts| 0.05 + facts.free_share()).collect();
            let mut at = rng.f64() * weights.iter().sum::<f64>();
            let chosen = weights.iter().position(|w| {
                at -= w;
                at <= 0.0
            });
            drawn.push(pool.swap_remove(chosen.unwrap_or(0)).clone());
        }
        drawn
    }

    pub(super) fn handle_bid(&mut self, request: u64, cluster: &ClusterName, lines: Vec<BidLine>) {
        if let Some(plan) = self.plans.get_mut(&request) {
            if plan.bidding.asked.contains(cluster) {
                plan.bidding.answers.insert(cluster.clone(), lines);
            }
            return;
        }
        for app in self.apps.values_mut() {
            if let Some(bidding) = &mut app.bidding
                && bidding.request == request
                && bidding.asked.contains(cluster)
            {
                bidding.answers.insert(cluster.clone(), lines);
                return;
            }
        }
    }

    /// Decides every round that is complete or out of time.
    pub(super) fn decide_bids(&mut self, now: BootTime, out: &mut Vec<HomeOutput>) {
        let ripe: Vec<AppUid> = self
            .apps
            .iter()
            .filter(|(_, app)| app.bidding.as_ref().is_some_and(|bidding| bidding.is_ripe(now)))
            .map(|(uid, _)| *uid)
            .collect();
        for uid in ripe {
            let Some(bidding) = self.apps.get_mut(&uid).and_then(|app| app.bidding.take()) else { continue };
            for key in &bidding.wanted {
                self.decide_replica(now, uid, key, &bidding, out);
            }
        }
    }

    fn decide_replica(
        &mut self,
        now: BootTime,
        uid: AppUid,
        key: &(ServiceName, u32),
        bidding: &Bidding,
        out: &mut Vec<HomeOutput>,
    ) {
        let Some(app) = self.apps.get(&uid) else { return };
        let Some(holder) = app.replicas.get(key).map(|r| r.mandate.as_ref().map(|held| held.id)) else {
            return;
        };
        if !app.wants(&key.0, key.1) || (holder.is_some() && !self.wants_to_migrate(app, key)) {
            return;
        }
        let Some((demand, service)) = app.demand(uid, key) else { return };
        let sites = self.sites(now, app, key, service, &demand.replica, bidding);
        let ranking = score::rank(&sites, &demand.resources, &[], weighing(app));
        let chosen = ranking.best().map(|best| best.name.clone());
        let decision = self.decision(app, &demand.replica, ranking, chosen.clone());
        match chosen {
            Some(_) => self.settle_uplinks(key, uid),
            None => self.ask_for_uplinks(key, uid),
        }
        let Some(app) = self.apps.get_mut(&uid) else { return };
        let Some(entry) = app.replicas.get_mut(key) else { return };
        let Some(cluster) = chosen.and_then(|name| ClusterName::new(name).ok()) else {
            let found = obstacles(&decision.ranking, &demand.replica, bidding);
            let reason = feasibility::sentence(&demand.resources, &found);
            entry.pause = Micros(entry.pause.0 * 2).clamp(RETRY_FIRST, RETRY);
            entry.next_try = now + entry.pause;
            // Ages and amounts that have changed are no news.
            let kinds = feasibility::kinds(&found);
            entry.waiting = Some(reason.clone());
            if entry.told_waiting.as_ref() != Some(&kinds) {
                entry.told_waiting = Some(kinds);
                out.push(HomeOutput::Decided(Box::new(decision)));
                out.push(HomeOutput::Note(HomeNote::Unplaceable(demand.replica, reason)));
            }
            return;
        };
        entry.waiting = None;
        entry.told_waiting = None;
        entry.pause = Micros(0);
        out.push(HomeOutput::Decided(Box::new(decision)));
        if let Some(mandate) = holder {
            // Somebody else would take it: the mandate is asked back, and given away once it has come.
            entry.next_try = now;
            self.record(HomeRecord::Recalling { replica: demand.replica, mandate }, out);
            return;
        }
        let mandate = MandateId(entry.next_mandate.max(1));
        self.record(HomeRecord::Mandated { replica: demand.replica, mandate, cluster }, out);
    }

    pub(super) fn sites(
        &self,
        now: BootTime,
        app: &App,
        key: &(ServiceName, u32),
        service: &ServiceSpec,
        replica: &ReplicaId,
        bidding: &Bidding,
    ) -> Vec<Site> {
        let declined = app.replicas.get(key).map(|r| &r.declined);
        self.clusters
            .values()
            .map(|facts| {
                let line = bidding
                    .answers
                    .get(&facts.name)
                    .and_then(|lines| lines.iter().find(|line| line.replica == *replica));
                let pause = declined.and_then(|d| d.get(&facts.name)).filter(|(until, _)| *until > now);
                let missing =
                    service.cluster_selector.iter().find(|(key, value)| facts.labels.get(key) != Some(value));
                let holds = app.replicas.get(key).and_then(|r| r.mandate.as_ref());
                let other = |text: &str| Some(Obstacle::Other(text.to_owned()));
                let barred = match (facts.reachable, missing, pause, line) {
                    _ if self.drained.contains(&facts.name) => other("cluster is being drained"),
                    _ if app
                        .replicas
                        .get(key)
                        .is_some_and(|r| r.lost.iter().any(|l| l.cluster == facts.name)) =>
                    {
                        other("it has an older mandate, which must come back first")
                    }
                    _ if holds.is_some_and(|held| held.cluster == facts.name) => {
                        other("it is to leave its node here, and no other node would do")
                    }
                    (false, ..) => other("its lead cannot be reached"),
                    (_, Some((key, value)), ..) => other(&format!("cluster label {key}={value} is missing")),
                    (_, _, Some((_, why)), _) => other(&format!("declined a moment ago: {why}")),
                    (.., None) if !bidding.asked.contains(&facts.name) => other("not in this round's sample"),
                    (.., None) => other("did not bid in time"),
                    (.., Some(BidLine { answer: Err(why), .. })) => other(why),
                    (.., Some(BidLine { answer: Ok(_), .. })) => None,
                };
                let barred =
                    barred.or_else(|| self.cluster_obstacle(app, key, service, facts, bidding.is_plan()));
                Site {
                    name: facts.name.to_string(),
                    id: facts.lead,
                    capacity: facts.capacity.clone(),
                    free: facts.free.clone(),
                    labels: facts.labels.clone(),
                    power: None,
                    copies: app.copies_in(&key.0, &facts.name),
                    partners: self.partners(app, &key.0, facts),
                    bid: line.and_then(|line| line.answer.as_ref().ok()).map(|(total, _)| *total),
                    age: facts.age,
                    barred,
                    draws: line.and_then(|line| line.power),
                    cost: line.and_then(|line| line.cost),
                    // Its bid was made without advice.
                    outlook: Default::default(),
                }
            })
            .collect()
    }

    /// Delay from a cluster to the clusters of placed partners: between their leads, by where they are in the network;
    /// else through this home, half of both round trips, where measured.
    pub(super) fn partners(&self, app: &App, service: &ServiceName, facts: &ClusterFacts) -> Vec<Partner> {
        let mut partners = Vec::new();
        for channel in &app.spec.context.channels {
            let Some(other) = channel.other_end(service) else { continue };
            let placed = app.replicas.iter().filter(|((name, _), _)| name == other);
            for (key, held) in placed.filter_map(|(key, replica)| Some((key, replica.mandate.as_ref()?))) {
                let delay = if held.cluster == facts.name {
                    Some(Delay::NONE)
                } else {
                    let there = self.clusters.get(&held.cluster);
                    Delay::estimated(facts.coordinate, there.and_then(|there| there.coordinate)).or_else(
                        || Delay::through(facts.round_trip, there.and_then(|there| there.round_trip)),
                    )
                };
                let follows = app.will_follow(service, key, held);
                partners.push(Partner {
                    delay,
                    limit: channel.delay_max,
                    assured: channel.assured && !follows,
                    channel: channel.name.clone(),
                    other: format!("{other} in {}", held.cluster),
                });
            }
        }
        partners
    }

    /// What `facts`' cluster is asked to bid for.
    pub(super) fn demands_of(
        &self,
        app: &App,
        uid: AppUid,
        keys: &[(ServiceName, u32)],
        facts: &ClusterFacts,
    ) -> Vec<Demand> {
        let demand = |key| {
            let (demand, service) = app.demand(uid, key)?;
            Some(Demand { rules: self.rules_for(app, key, service, facts), ..demand })
        };
        keys.iter().filter_map(demand).collect()
    }

    pub(super) fn decision(
        &self,
        app: &App,
        replica: &ReplicaId,
        ranking: Ranking,
        chosen: Option<String>,
    ) -> Decision {
        let key = (replica.service.clone(), replica.index);
        let service = app.spec.services.iter().find(|s| s.name == replica.service);
        // Without a winner, any cluster: what differs between them is not told.
        let facts = self.clusters.values().find(|facts| chosen.as_deref() == Some(facts.name.as_str()));
        let facts = facts.or_else(|| self.clusters.values().next());
        let rules = service.zip(facts).map(|(service, facts)| self.rules_for(app, &key, service, facts));
        Decision {
            level: Level::Cluster,
            replica: replica.clone(),
            namespace: app.spec.context.namespace.clone(),
            app: app.spec.context.name.clone(),
            profile: app.spec.context.profile,
            ranking,
            chosen,
            cause: "replica without mandate".into(),
            token: None,
            // Bids are made without advice.
            model: None,
            intents: intents_told(&app.spec.context, &rules.unwrap_or_default()),
        }
    }
}

/// How the parts of a cluster's score weigh for an application.
pub(super) fn weighing(app: &App) -> Weighing {
    let context = &app.spec.context;
    Weighing { profile: context.profile, apart: context.demands.apart == Apart::Clusters }
}

/// What stands against a replica: on each node of the clusters that have looked, and on clusters as a whole.
pub(super) fn obstacles(
    ranking: &Ranking,
    replica: &ReplicaId,
    bidding: &Bidding,
) -> Vec<(String, Obstacle)> {
    let mut found = Vec::new();
    for candidate in &ranking.candidates {
        let Some(obstacle) = &candidate.obstacle else { continue };
        let line = ClusterName::new(candidate.name.clone())
            .ok()
            .and_then(|name| bidding.answers.get(&name))
            .and_then(|lines| lines.iter().find(|line| line.replica == *replica));
        match line {
            Some(BidLine { answer: Err(_), obstacles, .. }) if !obstacles.is_empty() => {
                let named =
                    |(node, why): &(NodeName, Obstacle)| (format!("{}/{node}", candidate.name), why.clone());
                found.extend(obstacles.iter().map(named));
            }
            _ => found.push((format!("cluster {}", candidate.name), obstacle.clone())),
        }
    }
    found
}

impl ClusterFacts {
    pub(super) fn free_share(&self) -> f64 {
        let all = self.capacity.cpu.as_f64();
        if all > 0.0 { self.free.cpu.as_f64() / all } else { 0.0 }
    }
}

impl App {
    pub(super) fn demand(&self, uid: AppUid, key: &(ServiceName, u32)) -> Option<(Demand, &ServiceSpec)> {
        let service = self.spec.services.iter().find(|s| s.name == key.0)?;
        let replica = ReplicaId { app: uid, service: key.0.clone(), index: key.1 };
        let demand = Demand {
            replica,
            resources: service.spec.resources.clone(),
            node_selector: service.node_selector.clone(),
            rules: Default::default(),
        };
        Some((demand, service))
    }

    fn copies_in(&self, service: &ServiceName, cluster: &ClusterName) -> u32 {
        let there = self
            .replicas
            .iter()
            .filter(|((name, _), r)| {
                name == service && r.mandate.as_ref().is_some_and(|m| m.cluster == *cluster)
            })
            .count();
        u32::try_from(there).unwrap_or(u32::MAX)
    }
}
