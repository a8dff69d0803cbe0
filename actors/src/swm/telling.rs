//! What others hear of ledger, elector and home, and what these hear of others: facts made of cores, and the other way
//! round. The shells publish them, and the simulator does.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::demands::ClusterTraits;
use codeco_protocol::gossip::{
    AppFact, BrakeFact, ClusterFact, ElectorateFact, ReplicaFact, ReplicaState, Views, VoterFact,
};
use codeco_protocol::ids::{AppUid, ClusterName, NodeName};
use codeco_protocol::messages::{HeldPhase, NodeFacts};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{Epoch, Term};
use codeco_protocol::units::{BootTime, WallTime};

use super::brake::Missing;
use super::election::elector::Elector;
use super::election::electorate::{Electorate, Role, Voter};
use super::home::{App, Home};
use super::lead::{Lead, Member};
use super::ledger::Ledger;

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn has_lease(member: &Member) -> bool {
    !member.lost && member.reported.is_some()
}

/// What others should know of a cluster as soon as it changes; cheap to read, so that it can be after each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gist {
    term: Term,
    ready: bool,
    leased: usize,
    lost: usize,
    mandates: usize,
    electorate: Option<u64>,
    braked: bool,
}

impl Gist {
    /// Of a lead, and the elector it is in.
    #[must_use]
    pub fn of(lead: &Lead, elector: &Elector) -> Self {
        Self {
            term: lead.term(),
            ready: lead.is_ready(),
            leased: lead.members().filter(|(_, member)| has_lease(member)).count(),
            lost: lead.members().filter(|(_, member)| member.lost).count(),
            mandates: lead.mandates().count(),
            electorate: elector.electorate().map(Electorate::version),
            braked: lead.brake().is_some(),
        }
    }
}

/// A cluster, in the words of its lead.
#[must_use]
pub fn cluster_fact(
    cluster: &ClusterName,
    name: &NodeName,
    labels: &[(String, String)],
    lead: &Lead,
) -> ClusterFact {
    let leased = || lead.members().filter(|(_, member)| has_lease(member));
    let sum = |read: fn(&NodeFacts) -> &Resources| {
        leased()
            .filter_map(|(_, member)| member.facts.as_ref())
            .fold(Resources::default(), |sum, facts| sum.plus(read(facts)))
    };
    let traits: ClusterTraits = lead.traits();
    ClusterFact {
        cluster: cluster.clone(),
        lead: name.clone(),
        term: lead.term(),
        ready: lead.is_ready(),
        nodes_ready: count(leased().count()),
        nodes: count(lead.members().count()),
        nodes_lost: lead.members().filter(|(_, m)| m.lost).map(|(_, m)| m.name.clone()).collect(),
        capacity: sum(|facts| &facts.capacity),
        free: sum(|facts| &facts.free),
        mandates: count(lead.mandates().count()),
        labels: labels.to_vec(),
        traits,
    }
}

/// Who votes in a cluster, in the words of its lead.
#[must_use]
pub fn electorate_fact(lead: &Lead, elector: &Elector, now: BootTime) -> Option<ElectorateFact> {
    let electorate = elector.electorate()?;
    let voters = electorate.voters().map(|(voter, role)| VoterFact {
        member: voter.member,
        life: voter.incarnation,
        witness: role == Role::Witness,
        answers: elector.granted_until(voter) > now,
    });
    Some(ElectorateFact { term: lead.term(), version: electorate.version(), voters: voters.collect() })
}

/// The brake of a lead, engaged `since`.
#[must_use]
pub fn brake_fact(lead: &Lead, missing: Missing, held: usize, since: WallTime) -> BrakeFact {
    BrakeFact {
        term: lead.term(),
        missing: count(missing.silent),
        of: count(missing.of),
        held: count(held),
        since,
    }
}

/// What a runtime adds to what a ledger says of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunWords {
    /// Why, in words, where something is wrong.
    pub message: Option<String>,
    /// Process id of its first container, where there is one.
    pub pid: Option<u32>,
    /// How often its containers were started again.
    pub restarts: u32,
    /// Since when it is as it is.
    pub since: WallTime,
}

/// The copies a ledger holds, each with the key of its fact.
#[must_use]
pub fn replica_facts(
    ledger: &Ledger,
    run_of: impl Fn(&codeco_protocol::ids::ReplicaId, codeco_protocol::token::Token) -> Option<RunWords>,
) -> Vec<(String, ReplicaFact)> {
    let mut facts = Vec::new();
    for (replica, entry) in ledger.entries() {
        let (Some((token, held)), Some(spec)) = (entry.slot.held, &entry.spec) else { continue };
        if held == HeldPhase::Reserved {
            continue;
        }
        let words = run_of(replica, token).unwrap_or_default();
        let fact = ReplicaFact {
            replica: replica.clone(),
            namespace: spec.namespace.clone(),
            app: spec.app.clone(),
            generation: spec.generation,
            token,
            state: ReplicaState {
                held,
                run: entry.run,
                message: words.message,
                pid: words.pid,
                restarts: words.restarts,
            },
            since: words.since,
        };
        facts.push((format!("replica/{}/{}-{}", replica.app, replica.service, replica.index), fact));
    }
    facts
}

/// What is told of an application: under which epoch, which specification, and whether it is on its way out or a copy.
pub type AppGist = (Epoch, u64, bool);

/// The applications a home speaks for, and those it keeps copies of.
#[must_use]
pub fn apps_told(home: &Home) -> std::collections::BTreeMap<AppUid, AppGist> {
    let replaced = |uid: &AppUid, app: &App| app.retired && home.copies().any(|(known, _)| known == *uid);
    let own = home.apps().filter(|(uid, app)| !replaced(uid, app));
    let own = own.map(|(uid, app)| (uid, (app.epoch, app.generation, app.deleting)));
    let copies = home.copies().map(|(uid, copy)| (uid, (copy.epoch, copy.revision, true)));
    copies.chain(own).collect()
}

/// The facts of those applications for which `news` holds.
#[must_use]
pub fn app_facts(home: &Home, news: impl Fn(&AppUid) -> bool) -> Vec<AppFact> {
    let replaced = |uid: &AppUid, app: &App| app.retired && home.copies().any(|(known, _)| known == *uid);
    let own = home.apps().filter(|(uid, app)| news(uid) && !replaced(uid, app));
    let mut facts: Vec<AppFact> = own.map(|(uid, app)| app_fact(uid, app)).collect();
    let copies = home
        .copies()
        .filter(|(uid, _)| news(uid) && home.apps().all(|(own, app)| own != *uid || app.retired));
    facts.extend(copies.filter_map(|(uid, copy)| Some(app_fact(uid, &copy.app(uid)?))));
    facts
}

fn app_fact(uid: AppUid, app: &App) -> AppFact {
    let context = &app.spec.context;
    AppFact {
        uid,
        namespace: context.namespace.clone(),
        name: context.name.clone(),
        epoch: app.epoch,
        generation: app.generation,
        deleting: app.deleting,
    }
}

/// The highest term under which somebody says that it leads `cluster`.
#[must_use]
pub fn heard_term(views: &Views, cluster: &ClusterName) -> Option<Term> {
    let terms = views.iter().filter_map(|view| {
        let fact = view.cluster().filter(|fact| fact.cluster == *cluster)?;
        let of_ours = view.identity.cluster() == Some(cluster);
        (of_ours && fact.term.owner == view.identity.id).then_some(fact.term)
    });
    terms.max()
}

/// Electorate of `cluster`, in the words of its lead of the highest term.
#[must_use]
pub fn heard_electorate(views: &Views, cluster: &ClusterName) -> Option<(Term, Electorate)> {
    let facts = views.iter().filter_map(|view| {
        let fact = view.electorate()?;
        let of_ours = view.identity.cluster() == Some(cluster);
        (of_ours && fact.term.owner == view.identity.id).then_some(fact)
    });
    facts.max_by_key(|fact| fact.term).map(|fact| {
        let role = |witness| if witness { Role::Witness } else { Role::Member };
        let voters = fact
            .voters
            .iter()
            .map(|voter| (Voter { member: voter.member, incarnation: voter.life }, role(voter.witness)));
        (fact.term, Electorate::told(fact.version, voters))
    })
}
