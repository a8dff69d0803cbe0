//! The home of applications: it alone numbers their specifications, gives clusters their mandates, and deletes.
//!
//! Contract for the shell: as with the ledger and the lead (journal before anything that follows).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod adoption;
mod apply;
mod bidding;
mod brake;
mod constraints;
mod contact;
mod copies;
mod foreign;
mod mandates;
mod plan;
mod record;
mod rollout;

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use codeco_protocol::coordinate::Coordinate;
use codeco_protocol::demands::{ClusterTraits, SpreadLimits};
use codeco_protocol::ids::{
    AppName, AppUid, ClusterName, MemberId, Namespace, NodeName, ReplicaId, ServiceName,
};
use codeco_protocol::messages::{AppContext, ControlMessage, Leaving, RunPhase};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{Epoch, MandateId, Term, Token};
use codeco_protocol::units::{BootTime, Micros, WallTime};
use codeco_protocol::workload::WorkloadSpec;

use super::brake::Missing;
use super::contact::{HomeContact, Patience};
use super::decision::Decision;
use super::mandate::MandateRule;
use codeco_protocol::api::OnReconnect;
use mandates::Answer;

pub use adoption::{Adoptable, Others};
pub use apply::{Applied, ApplyError, DeleteError};
pub use constraints::UplinkShare;
pub use copies::{AppRecords, Copy, KEEPERS};
pub use plan::{PLANS_MAX, Plan, PlanAction, Planned};
pub use record::HomeRecord;
pub use rollout::{Pick, Progress};

/// Most applications of one home.
pub const APPS_MAX: usize = 10_000;

/// What does not change while the process lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HomeConfig {
    /// The home.
    pub id: MemberId,
    /// Time between repeats of unanswered offers and recalls.
    pub resend: Micros,
    /// How long bids are waited for.
    pub bid_wait: Micros,
    /// How many clusters are asked at most.
    pub bidders_max: usize,
    /// How long a cluster that declined is not asked again for the same replica.
    pub decline_pause: Micros,
    /// Seed of the sampling of bidders.
    pub seed: u64,
    /// Above every revision of an earlier life of this home, as far as its clock can tell.
    pub first_revision: u64,
    /// What is added to the time a cluster may be silent.
    pub patience: Patience,
}

impl HomeConfig {
    /// Defaults.
    #[must_use]
    pub fn new(id: MemberId, seed: u64) -> Self {
        Self {
            id,
            resend: Micros::from_millis(300),
            bid_wait: Micros::from_millis(250),
            bidders_max: 4,
            decline_pause: Micros::from_secs(5),
            seed,
            first_revision: 0,
            patience: Patience { drift_ppm: 10_000, margin: Micros::from_secs(1) },
        }
    }
}

/// One service of an application, ready to be placed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ServiceSpec {
    /// Name.
    pub name: ServiceName,
    /// Copies wanted.
    pub replicas: u32,
    /// What a copy runs. Its generation is set by the home.
    pub spec: WorkloadSpec,
    /// Labels its node must have.
    pub node_selector: Vec<(String, String)>,
    /// Labels its cluster must have.
    pub cluster_selector: Vec<(String, String)>,
    /// How many copies a change may take away at a time; with 0, none is stopped before another one is ready.
    pub max_unavailable: u32,
    /// Which of two copies stays when a cluster is heard again.
    pub on_reconnect: OnReconnect,
    /// Most copies in one place.
    pub spread: SpreadLimits,
    /// Regions its copies may be in; empty is anywhere.
    pub regions: Vec<String>,
}

/// An application, ready to be placed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct AppSpec {
    /// Names, profile, channels. The uid is the one a new application would get.
    pub context: AppContext,
    /// Services.
    pub services: Vec<ServiceSpec>,
    /// The manifest as the user wrote it, in JSON.
    pub manifest_json: String,
}

/// What is known of a cluster, from the summary its lead spreads.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterFacts {
    /// Name.
    pub name: ClusterName,
    /// Its lead.
    pub lead: MemberId,
    /// The lead's term.
    pub term: Term,
    /// Sum over its nodes.
    pub capacity: Resources,
    /// Sum over its nodes.
    pub free: Resources,
    /// Labels of the cluster.
    pub labels: BTreeMap<String, String>,
    /// Round trip to its lead, where measured.
    pub round_trip: Option<Micros>,
    /// Where its lead is in the network.
    pub coordinate: Option<Coordinate>,
    /// Age of the summary.
    pub age: Micros,
    /// Whether the lead can be reached now.
    pub reachable: bool,
    /// What its lead declares about it.
    pub traits: ClusterTraits,
}

/// What a home is told.
#[derive(Debug, Clone, PartialEq)]
pub enum HomeInput {
    /// The clusters, as known now.
    Clusters(Vec<ClusterFacts>),
    /// A control message of a lead.
    Message {
        /// The sender, as its certificate says.
        from: MemberId,
        /// Its cluster, as its certificate says.
        cluster: ClusterName,
        /// The message.
        message: ControlMessage,
    },
    /// Members that could keep copies now, those to be preferred first.
    Keepers(Vec<MemberId>),
    /// The other members, as known now.
    Others(Others),
    /// A message about a copy of an application, of any member.
    Copy {
        /// The sender, as its certificate says.
        from: MemberId,
        /// The message.
        message: ControlMessage,
    },
    /// Time has passed.
    Tick,
}

/// What a home wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum HomeOutput {
    /// On disk before anything that follows.
    Journal(HomeRecord),
    /// To a lead.
    Send {
        /// Whom.
        to: MemberId,
        /// What.
        message: ControlMessage,
    },
    /// Evidence to keep.
    Decided(Box<Decision>),
    /// Something people should see.
    Note(HomeNote),
}

/// Something people should see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HomeNote {
    /// A new application, or a new specification of one.
    Applied(AppUid, AppName, u64),
    /// All of an application's mandates are back: it is gone.
    Removed(AppUid, Namespace, AppName),
    /// A cluster runs a replica.
    Accepted(ReplicaId, ClusterName, NodeName),
    /// A cluster gave a replica back.
    HandedBack(ReplicaId, ClusterName, String),
    /// No cluster can run a replica for now.
    Unplaceable(ReplicaId, String),
    /// A cluster has been silent for too long: the replica may go elsewhere. Whether the copy there has surely stopped.
    ClusterLost(ReplicaId, ClusterName, bool),
    /// Of two copies the one in the first cluster stays, and the one in the second goes.
    Reconciled(ReplicaId, ClusterName, ClusterName),
    /// Most clusters are silent at once: none counts as lost.
    BrakeEngaged(Missing),
    /// Enough are heard again.
    BrakeReleased,
    /// This home speaks for an application whose home, under that epoch, has been silent for too long.
    AdoptedApp(AppUid, AppName, Epoch),
    /// It does not, because a service of the application is fenced.
    NotAdopted(AppUid, AppName),
    /// A deletion waits for these members to hear of it: they could adopt what is deleted.
    EndWaits(AppUid, AppName, Vec<MemberId>),
    /// Another home speaks for an application of this one.
    GaveUp(AppUid, AppName, Epoch),
}

/// A mandate, from the home's side.
#[derive(Debug, Clone, PartialEq)]
pub struct HomeMandate {
    /// Its number.
    pub id: MandateId,
    /// Who has it.
    pub cluster: ClusterName,
    /// The rule.
    pub rule: MandateRule,
    /// Whether it is wanted back.
    pub recalling: bool,
    /// What the lead last said: generation, node, token.
    pub accepted: Option<(u64, NodeName, Token)>,
    /// How that copy fares, as the lead last said.
    pub run: Option<RunPhase>,
    /// Whether its node is being drained.
    pub leaving: Leaving,
    /// What may be done with the copy now, while it is being changed.
    pub rolling: Option<Pick>,
    /// How long its cluster may be silent under any specification it was offered; `None` is for ever.
    pub limit: Option<Micros>,
    /// The longest time a copy may take to end under any of these.
    pub grace: Micros,
    /// Its token when its cluster was last heard before it was given to another one.
    pub before: Option<Token>,
    /// When the lead said that: its term, and the number within it.
    told: Option<(Term, u64)>,
    /// What it has of its cluster's uplink.
    pub uplink: UplinkShare,
    next_send: BootTime,
    ask_again: BootTime,
}

/// A replica, from the home's side.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HomeReplica {
    /// Its mandate, while a cluster has one.
    pub mandate: Option<HomeMandate>,
    /// Mandates of clusters that were silent for too long, until they are back.
    pub lost: Vec<HomeMandate>,
    /// Why it is nowhere.
    pub waiting: Option<String>,
    /// The same without figures, as it was last made an event.
    told_waiting: Option<String>,
    next_mandate: u64,
    last_cluster: Option<ClusterName>,
    next_try: BootTime,
    /// Since it was last tried in vain, until then.
    pause: Micros,
    declined: BTreeMap<ClusterName, (BootTime, String)>,
}

/// An application, from its home's side.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// The right to speak for it.
    pub epoch: Epoch,
    /// Number of its specification.
    pub generation: u64,
    /// Its specification.
    pub spec: AppSpec,
    /// When it was first applied.
    pub created: WallTime,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Its replicas.
    pub replicas: BTreeMap<(ServiceName, u32), HomeReplica>,
    bidding: Option<bidding::Bidding>,
    kept: copies::Kept,
    /// The home before this one, until it has heard that it is no more.
    pub former: Option<MemberId>,
    /// Members that were given a copy, where that gives them a right, and under which epoch: they may adopt it.
    pub kept_by: BTreeMap<MemberId, Epoch>,
    /// Whether another home speaks for it now, and this one only takes back what that one does not know of.
    pub retired: bool,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Home {
    config: HomeConfig,
    apps: BTreeMap<AppUid, App>,
    clusters: BTreeMap<ClusterName, ClusterFacts>,
    /// Clusters that take nothing new, and whose replicas are to move.
    drained: BTreeSet<ClusterName>,
    next_request: u64,
    /// Plans under way, by request.
    plans: BTreeMap<u64, plan::Planning>,
    next_plan: u64,
    /// Copies kept for other homes.
    copies: BTreeMap<AppUid, Copy>,
    keepers: Vec<MemberId>,
    /// Leads that ask whether this home is there, by cluster.
    contacts: BTreeMap<ClusterName, HomeContact>,
    brake: brake::HomeBrake,
    watching: adoption::Watching,
}

impl Home {
    /// Restores a home from its journal.
    #[must_use]
    pub fn recover(config: HomeConfig, records: &[HomeRecord]) -> Self {
        let mut home = Self {
            config,
            apps: BTreeMap::new(),
            clusters: BTreeMap::new(),
            drained: BTreeSet::new(),
            next_request: 1,
            plans: BTreeMap::new(),
            next_plan: 0,
            copies: BTreeMap::new(),
            keepers: Vec::new(),
            contacts: BTreeMap::new(),
            brake: brake::HomeBrake::default(),
            watching: adoption::Watching::default(),
        };
        for record in records {
            home.replay(record);
        }
        for app in home.apps.values_mut() {
            // Nothing has been sent in this life, and its first revision is above those of all earlier ones.
            app.kept.revision = home.config.first_revision;
        }
        home.match_replicas();
        home
    }

    /// Feeds one input. Outputs are appended to `out`.
    pub fn handle(&mut self, now: BootTime, input: HomeInput, out: &mut Vec<HomeOutput>) {
        match input {
            HomeInput::Clusters(list) => {
                self.clusters = list.into_iter().map(|facts| (facts.name.clone(), facts)).collect();
            }
            HomeInput::Message { from, cluster, message } => {
                self.handle_message(now, from, &cluster, message, out);
            }
            HomeInput::Keepers(members) => self.keepers = members,
            HomeInput::Others(others) => self.see_others(now, others),
            HomeInput::Copy { from, message } => self.handle_copy(now, from, message, out),
            HomeInput::Tick => {}
        }
        self.work(now, out);
    }

    fn handle_message(
        &mut self,
        now: BootTime,
        from: MemberId,
        cluster: &ClusterName,
        message: ControlMessage,
        out: &mut Vec<HomeOutput>,
    ) {
        use ControlMessage as M;
        match message {
            M::Bid { request, term, lines, .. } if term.owner == from => {
                self.handle_bid(request, cluster, lines);
            }
            M::Accepted { term, mandate, replica, generation, node, token, run, leaving, number, uplink }
                if term.owner == from =>
            {
                let accepted = (generation, node, token);
                let answer = Answer { accepted, run, leaving, told: (term, number), uplink };
                self.handle_accepted(now, cluster, mandate, &replica, answer, out);
            }
            M::Declined { term, mandate, replica, reason, .. } if term.owner == from => {
                self.handle_handed_back(now, cluster, term, mandate, &replica, Some(reason), out);
            }
            M::Returned { term, mandate, replica, .. } if term.owner == from => {
                self.handle_handed_back(now, cluster, term, mandate, &replica, None, out);
            }
            M::Watch { nonce, term, allowance } if term.owner == from => {
                self.handle_watch(now, from, cluster, (nonce, term, allowance), out);
            }
            M::LeadIs { term, .. } if term.owner == from => {
                if let Some(facts) = self.clusters.get_mut(cluster)
                    && facts.term < term
                {
                    facts.term = term;
                    facts.lead = from;
                }
            }
            _ => {}
        }
    }

    fn work(&mut self, now: BootTime, out: &mut Vec<HomeOutput>) {
        // Here, not only where a specification changes: a crash may have come between the change and its recalls.
        self.adopt_orphans(now, out);
        self.assume_contact(now);
        self.recall_what_is_unwanted(now, out);
        self.declare_lost(now, out);
        self.reconcile(now, out);
        self.decide_bids(now, out);
        self.ask_for_bids(now, out);
        self.pace_changes(out);
        self.repeat_offers(now, out);
        self.send_copies(now, out);
        self.remove_what_is_back(out);
        self.tell_waiting_ends(now, out);
    }

    /// The applications.
    pub fn apps(&self) -> impl Iterator<Item = (AppUid, &App)> {
        self.apps.iter().map(|(uid, app)| (*uid, app))
    }

    /// The clusters as known.
    pub fn clusters(&self) -> impl Iterator<Item = &ClusterFacts> {
        self.clusters.values()
    }

    /// Finds an application by name.
    #[must_use]
    pub fn find(&self, namespace: &Namespace, name: &AppName) -> Option<(AppUid, &App)> {
        self.apps()
            .filter(|(_, app)| !app.retired)
            .find(|(_, app)| app.spec.context.namespace == *namespace && app.spec.context.name == *name)
    }

    /// When [`HomeInput::Tick`] is due next.
    #[must_use]
    pub fn next_tick(&self, now: BootTime) -> BootTime {
        let idle = Micros::from_secs(1);
        let mut next = now + if self.apps.is_empty() { idle } else { self.config.resend };
        for app in self.apps.values() {
            if let Some(bidding) = &app.bidding {
                next = next.min(bidding.until);
            }
        }
        next.max(now + Micros::from_millis(5))
    }

    fn replica_mut(&mut self, replica: &ReplicaId) -> Option<&mut HomeReplica> {
        self.apps.get_mut(&replica.app)?.replicas.get_mut(&(replica.service.clone(), replica.index))
    }
}

#[cfg(test)]
mod tests;
