//! The agent's eye on its cluster: who leads it, where its members are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use codeco_actors::evidence::Note;
use codeco_actors::fabric::Watcher;
use codeco_actors::process::{Member, Pace, PeriodicMessage, following_child};
use codeco_actors::supervision::{ChildRef, ChildSpec, Policy};
use codeco_actors::swm::actor::CoreMessage;
use codeco_actors::swm::election::elector::{Elector, ElectorInput};
use codeco_actors::swm::election::electorate::Electorate;
use codeco_actors::swm::ledger::{Ledger, LedgerInput};
use codeco_actors::swm::telling::{heard_electorate, heard_term};
use codeco_protocol::api::EventType;
use codeco_protocol::gossip::Liveness;
use codeco_protocol::ids::{ClusterName, Identity, MemberId, NodeName};
use codeco_protocol::token::Term;
use futures::FutureExt as _;

use super::options::AgentConfig;

/// Addresses remembered at most.
const PEERS_MAX: usize = 1_024;
const PEERS_FILE: &str = "peers.json";

/// See the module.
pub(super) struct AgentWatcher {
    member: Arc<Member>,
    cluster: ClusterName,
    name: NodeName,
    peers_file: PathBuf,
    seat: Arc<Seat>,
    known: Mutex<HighestTerm>,
}

/// The highest term heard of, and how much was known when it was looked for.
#[derive(Debug, Default)]
struct HighestTerm {
    term: Option<Term>,
    looked_at: Option<u64>,
}

/// What this process's elector is, for those who follow it.
#[derive(Debug, Default)]
pub(super) struct Seat(Mutex<(Option<Term>, Vec<MemberId>)>);

impl Seat {
    /// The term in which it is in office, and the members whose votes it may need, or that may need its own.
    /// `true` if that is news.
    pub(super) fn set(&self, office: Option<Term>, peers: Vec<MemberId>) -> bool {
        let mut seat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *seat != (office, peers.clone());
        *seat = (office, peers);
        news
    }

    pub(super) fn office(&self) -> Option<Term> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn peers(&self) -> Vec<MemberId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

impl AgentWatcher {
    pub(super) fn new(config: &AgentConfig, cluster: &ClusterName, member: &Arc<Member>) -> Self {
        Self {
            member: Arc::clone(member),
            cluster: cluster.clone(),
            name: config.name.clone(),
            peers_file: config.state.join(PEERS_FILE),
            seat: Arc::new(Seat::default()),
            known: Mutex::default(),
        }
    }

    /// What this process's elector is.
    pub(super) fn seat(&self) -> Arc<Seat> {
        Arc::clone(&self.seat)
    }

    /// Electorate of the cluster, in the words of its lead of the highest term.
    fn electorate(&self) -> Option<(Term, Electorate)> {
        self.member.commons.with_views(|views| heard_electorate(views, &self.cluster))
    }
}

/// Peers named by the configuration, and those known when the agent last ran.
pub(super) fn remembered_peers(config: &AgentConfig) -> Vec<SocketAddr> {
    let mut peers = config.peers.clone();
    if let Ok(text) = std::fs::read_to_string(config.state.join(PEERS_FILE))
        && let Ok(known) = serde_json::from_str::<Vec<SocketAddr>>(&text)
    {
        peers.extend(known.into_iter().take(PEERS_MAX));
    }
    peers
}

impl AgentWatcher {
    /// The highest term under which somebody says that it leads this cluster.
    fn heard(&self) -> Option<Term> {
        self.member.commons.with_views(|views| heard_term(views, &self.cluster))
    }
}

impl Watcher for AgentWatcher {
    /// Whoever says that it leads this cluster, under the highest term heard of.
    fn lead(&self) -> Option<MemberId> {
        let (own, office) = (self.member.commons.own.id, self.seat.office());
        let number = self.member.commons.known_number();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked_at != Some(number) {
            known.term = known.term.max(self.heard());
            known.looked_at = Some(number);
        }
        known.term = known.term.max(office);
        known.term.map(|term| term.owner).filter(|lead| *lead != own || office.is_some())
    }

    fn kept(&self) -> Vec<MemberId> {
        let mut kept = self.seat.peers();
        kept.extend(self.lead());
        kept
    }

    fn changed(&self, member: &Identity, liveness: Liveness) {
        let kind = match liveness {
            Liveness::Alive | Liveness::Left => EventType::Normal,
            Liveness::Suspect | Liveness::Dead => EventType::Warning,
        };
        let name = self.member.commons.view(member.id).and_then(|view| view.member().map(|f| f.name.clone()));
        self.member.events.tell(Note {
            kind,
            reason: "MemberChanged",
            object_kind: "Member",
            object: match (member.cluster(), name) {
                (Some(cluster), Some(name)) => format!("{cluster}/{name}"),
                (None, Some(name)) => name,
                (_, None) => member.to_string().trim_start_matches('/').to_owned(),
            },
            message: format!("is {liveness:?} as seen from {}/{}", self.cluster, self.name).to_lowercase(),
        });
    }

    fn cut_off(&self, cut_off: bool) {
        self.member.update(|fact| fact.cut_off = cut_off);
        let (kind, message) = if cut_off {
            (
                EventType::Warning,
                "hears no other member: it is cut off, and decides and runs on as far as it may",
            )
        } else {
            (EventType::Normal, "hears other members again")
        };
        self.member.events.tell(Note {
            kind,
            reason: "CutOff",
            object_kind: "Node",
            object: self.name.to_string(),
            message: message.into(),
        });
    }

    fn peers_known(&self, peers: Vec<SocketAddr>) {
        // Only a help for the next start: an error costs a little time then.
        if let Ok(text) = serde_json::to_string(&peers) {
            let temporary = self.peers_file.with_extension("new");
            if std::fs::write(&temporary, text).is_ok() {
                let _ = std::fs::rename(&temporary, &self.peers_file);
            }
        }
    }
}

/// Tells ledger and post who leads, whenever that changes, and the elector who votes, by the lead's word.
pub(super) fn follow_lead(
    watcher: &Arc<AgentWatcher>,
    member: &Arc<Member>,
    ledger: &ChildRef<CoreMessage<Ledger>>,
    elector: &ChildRef<CoreMessage<Elector>>,
    policy: Policy,
) -> (ChildSpec, ChildRef<PeriodicMessage>) {
    let (watcher, member) = (Arc::clone(watcher), Arc::clone(member));
    let (ledger, elector) = (ledger.clone(), elector.clone());
    let told = Arc::new(Mutex::new(None));
    let pace = Pace { least: Duration::from_millis(50), most: Duration::from_secs(1) };
    let follows = vec![member.commons.follow_known()];
    following_child("follow-lead", policy, pace, follows, move || {
        let (watcher, member) = (Arc::clone(&watcher), Arc::clone(&member));
        let (ledger, elector, told) = (ledger.clone(), elector.clone(), Arc::clone(&told));
        async move {
            let lead = watcher.lead();
            if let Some(lead) = lead {
                member.commons.post.set_lead(lead);
            }
            if member.fact().lead != lead
                && lead
                    .is_none_or(|lead| ledger.try_send(CoreMessage::Input(LedgerInput::LeadIs(lead))).is_ok())
            {
                member.update(|fact| fact.lead = lead);
            }
            let electorate = watcher.electorate();
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if *told != electorate
                && let Some((term, voters)) = electorate.clone()
                && elector
                    .try_send(CoreMessage::Input(ElectorInput::Heard { term, electorate: voters }))
                    .is_ok()
            {
                *told = electorate;
            }
            Ok(())
        }
        .boxed()
    })
}
