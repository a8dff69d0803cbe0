//! What applying a specification would do, found out by the same bids and the same choice, and then forgotten: nothing
//! is written down and nothing reserved.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use codeco_protocol::ids::{ClusterName, NodeName, ReplicaId, ServiceName};
use codeco_protocol::messages::{BidLine, ControlMessage};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{Epoch, MandateId};
use codeco_protocol::units::{BootTime, Micros, WallTime};
use codeco_protocol::workload::PartitionPolicy;

use super::bidding::{Bidding, obstacles};
use super::{App, AppSpec, Home, HomeMandate, HomeOutput};
use crate::swm::decision::Decision;
use crate::swm::feasibility;
use crate::swm::mandate::MandateRule;
use crate::swm::score::{self, Ranking};

/// Most plans under way at a time.
pub const PLANS_MAX: usize = 16;
/// Requests of plans are told from those of placements by this bit.
const PLAN_BIT: u64 = 1 << 63;
/// A plan that nobody has fetched is forgotten after this.
const FORGOTTEN_AFTER: Micros = Micros::from_secs(30);

/// What would become of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanAction {
    /// It is new.
    Create,
    /// Its service has changed: it is replaced by a copy elsewhere in its cluster, or in its place.
    Change,
    /// It stays as it is.
    Keep,
    /// It goes.
    Remove,
    /// No node can take it now.
    Wait,
}

/// One replica of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Which.
    pub replica: ReplicaId,
    /// What would become of it.
    pub action: PlanAction,
    /// Where it is now.
    pub from: Option<(ClusterName, Option<NodeName>)>,
    /// Where it would go.
    pub to: Option<(ClusterName, Option<NodeName>)>,
    /// How the cluster would be chosen.
    pub decision: Option<Decision>,
    /// Why, for people.
    pub why: String,
}

/// A plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Generation that applying would make; the present one if nothing would change.
    pub generation: u64,
    /// Every replica wanted or there, in order.
    pub replicas: Vec<Planned>,
    /// Clusters that were asked and have not answered.
    pub silent: Vec<ClusterName>,
}

/// A plan under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planning {
    /// The application as it is.
    before: Option<App>,
    /// As it would be.
    app: App,
    pub(super) bidding: Bidding,
}

impl Home {
    /// Asks clusters for bids on `spec`, as applying it would. `None` if too many plans are under way; otherwise ask
    /// [`Home::finish_plan`] until it answers.
    pub fn begin_plan(&mut self, now: BootTime, mut spec: AppSpec, out: &mut Vec<HomeOutput>) -> Option<u64> {
        self.plans.retain(|_, plan| now < plan.bidding.until + FORGOTTEN_AFTER);
        if self.plans.len() >= PLANS_MAX {
            return None;
        }
        let known = self.find(&spec.context.namespace, &spec.context.name);
        let before = known.map(|(uid, app)| (uid, app.clone()));
        let uid = before.as_ref().map_or(spec.context.uid, |(uid, _)| *uid);
        spec.context.uid = uid;
        let mut app = match &before {
            Some((_, app)) => app.clone(),
            None => App {
                epoch: Epoch { number: 1, owner: self.config.id },
                generation: 0,
                spec: spec.clone(),
                created: WallTime(0),
                deleting: false,
                replicas: BTreeMap::new(),
                former: None,
                retired: false,
                kept_by: Default::default(),
                bidding: None,
                kept: Default::default(),
            },
        };
        let generation = app.generation.saturating_add(1);
        super::apply::number_services(&app, &mut spec, generation);
        if before.is_none() || spec.services != app.spec.services || spec.context != app.spec.context {
            app.generation = generation;
        }
        app.spec = spec;
        app.add_wanted();
        let wanted: Vec<(ServiceName, u32)> = app
            .replicas
            .iter()
            .filter(|(key, _)| app.wants(&key.0, key.1))
            .map(|(key, _)| key.clone())
            .collect();
        let mut wanted = wanted;
        wanted.sort_by_key(|key| (app.is_follower(&key.0), key.clone()));
        // The sample that the next round of bids would ask.
        let bidders = self.sample_bidders(self.next_request);
        self.next_plan += 1;
        let request = PLAN_BIT | self.next_plan;
        let until = now + self.config.bid_wait;
        for facts in &bidders {
            let context = app.spec.context.clone();
            let demands = self.demands_of(&app, uid, &wanted, facts);
            let message = ControlMessage::BidRequest { request, context, demands };
            out.push(HomeOutput::Send { to: facts.lead, message });
        }
        let asked = bidders.into_iter().map(|facts| facts.name).collect();
        let bidding = Bidding { request, asked, answers: BTreeMap::new(), wanted, until };
        self.plans.insert(request, Planning { before: before.map(|(_, app)| app), app, bidding });
        Some(request)
    }

    /// The plan, once all bids are in or their time is over. A plan is given out once.
    pub fn finish_plan(&mut self, now: BootTime, request: u64) -> Option<Plan> {
        let ripe = self.plans.get(&request)?.bidding.is_ripe(now);
        if !ripe {
            return None;
        }
        let Planning { before, mut app, bidding } = self.plans.remove(&request)?;
        let uid = app.spec.context.uid;
        let mut plan = Plan { generation: app.generation, replicas: Vec::new(), silent: Vec::new() };
        plan.silent.extend(bidding.asked.iter().filter(|name| !bidding.answers.contains_key(*name)).cloned());
        let mut keys: Vec<(ServiceName, u32)> = app.replicas.keys().cloned().collect();
        // Those that follow others come after them, as they would.
        keys.sort_by_key(|key| (app.is_follower(&key.0), key.clone()));
        for key in keys {
            let replica = ReplicaId { app: uid, service: key.0.clone(), index: key.1 };
            plan.replicas.extend(self.plan_replica(now, &mut app, before.as_ref(), &key, replica, &bidding));
        }
        plan.replicas.sort_by(|a, b| a.replica.cmp(&b.replica));
        Some(plan)
    }

    fn plan_replica(
        &self,
        now: BootTime,
        app: &mut App,
        before: Option<&App>,
        key: &(ServiceName, u32),
        replica: ReplicaId,
        bidding: &Bidding,
    ) -> Option<Planned> {
        let held = before.and_then(|app| app.replicas.get(key)).and_then(|r| r.mandate.as_ref());
        let at = |held: &HomeMandate| {
            (held.cluster.clone(), held.accepted.as_ref().map(|(_, node, _)| node.clone()))
        };
        let from = held.map(at);
        if !app.wants(&key.0, key.1) {
            let (action, why) = (PlanAction::Remove, "no longer wanted".to_owned());
            return held.map(|_| Planned { replica, action, from, to: None, decision: None, why });
        }
        let newest = app.spec.services.iter().find(|s| s.name == key.0).map(|s| s.spec.clone())?;
        if let (Some(held), Some(before)) = (held, before) {
            let old = before.spec.services.iter().find(|s| s.name == key.0).map_or(0, |s| s.spec.generation);
            if old == newest.generation {
                let (action, why) = (PlanAction::Keep, String::new());
                return Some(Planned { replica, action, to: from.clone(), from, decision: None, why });
            }
            return Some(plan_change(held, replica, newest.partition, from, bidding, &newest.resources));
        }
        let (demand, service) = app.demand(replica.app, key)?;
        let sites = self.sites(now, app, key, service, &replica, bidding);
        let ranking = score::rank(&sites, &demand.resources, &[], super::bidding::weighing(app));
        Some(self.plan_new(app, key, replica, ranking, bidding, &demand.resources))
    }

    fn plan_new(
        &self,
        app: &mut App,
        key: &(ServiceName, u32),
        replica: ReplicaId,
        ranking: Ranking,
        bidding: &Bidding,
        wanted: &Resources,
    ) -> Planned {
        let found = obstacles(&ranking, &replica, bidding);
        let chosen = ranking.best().map(|best| best.name.clone());
        let decision = self.decision(app, &replica, ranking, chosen.clone());
        let Some(cluster) = chosen.and_then(|name| ClusterName::new(name).ok()) else {
            let why = feasibility::sentence(wanted, &found);
            let action = PlanAction::Wait;
            return Planned { replica, action, from: None, to: None, decision: Some(decision), why };
        };
        let node =
            bidding.line(&cluster, &replica).and_then(|l| l.answer.as_ref().ok()).map(|(_, n)| n.clone());
        if let Some(entry) = app.replicas.get_mut(key) {
            // So that the next one sees this one there, as it would.
            entry.mandate = Some(HomeMandate {
                limit: None,
                grace: Default::default(),
                before: None,
                id: MandateId(entry.next_mandate.max(1)),
                cluster: cluster.clone(),
                rule: MandateRule::default(),
                recalling: false,
                accepted: None,
                run: None,
                leaving: Default::default(),
                rolling: None,
                told: None,
                uplink: Default::default(),
                next_send: BootTime(0),
                ask_again: BootTime(0),
            });
        }
        let why = decision.cause.clone();
        let to = Some((cluster, node));
        Planned { replica, action: PlanAction::Create, from: None, to, decision: Some(decision), why }
    }
}

/// A replica whose service has changed stays in its cluster, where there is room for the new copy.
fn plan_change(
    held: &HomeMandate,
    replica: ReplicaId,
    partition: PartitionPolicy,
    from: Option<(ClusterName, Option<NodeName>)>,
    bidding: &Bidding,
    wanted: &Resources,
) -> Planned {
    let line = bidding.line(&held.cluster, &replica);
    let (node, why) = match line.map(|line| &line.answer) {
        Some(Ok((_, node))) if partition == PartitionPolicy::Autonomous => (
            Some(node.clone()),
            "specification changed: the new copy is ready before the old one stops".to_owned(),
        ),
        Some(Ok((_, node))) => (
            Some(node.clone()),
            "specification changed: the old copy stops before the new one starts".to_owned(),
        ),
        Some(Err(_)) => {
            let BidLine { obstacles, .. } = line.cloned().unwrap_or_else(|| empty(&replica));
            let found: Vec<_> =
                obstacles.into_iter().map(|(node, why)| (format!("{}/{node}", held.cluster), why)).collect();
            let room = feasibility::sentence(wanted, &found);
            (
                None,
                format!("specification changed: in its place if that gives room, otherwise it stays; {room}"),
            )
        }
        None => {
            (None, "specification changed; its cluster has not said where the new copy would go".to_owned())
        }
    };
    let to = Some((held.cluster.clone(), node));
    Planned { replica, action: PlanAction::Change, from, to, decision: None, why }
}

fn empty(replica: &ReplicaId) -> BidLine {
    BidLine {
        replica: replica.clone(),
        answer: Err(String::new()),
        obstacles: Vec::new(),
        power: None,
        cost: None,
    }
}

impl Bidding {
    fn line(&self, cluster: &ClusterName, replica: &ReplicaId) -> Option<&BidLine> {
        self.answers.get(cluster)?.iter().find(|line| line.replica == *replica)
    }

    /// Whether nothing is to come of it.
    pub(super) fn is_plan(&self) -> bool {
        self.request & PLAN_BIT != 0
    }

    pub(super) fn is_ripe(&self, now: BootTime) -> bool {
        self.until <= now || self.answers.len() == self.asked.len()
    }
}
