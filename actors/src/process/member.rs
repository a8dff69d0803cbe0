//! A member of the fleet: endpoint, sessions, post, commons, evidence, readiness.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use codeco_protocol::api::{ActorState as ActorStateView, ActorView, EventType};
use codeco_protocol::gossip::{Fact, MemberFact};
use codeco_protocol::identity::{Credentials, JoinHandler, RenewHandler, Trust, TrustClock};
use codeco_protocol::ids::{AppName, AppUid, Identity, ReplicaId};
use codeco_protocol::token::Term;
use codeco_protocol::transport::{
    BindError, CloseReason, Limits, Refusal, RefusalReason, Transport, TransportConfig,
};
use tokio::sync::mpsc;

use super::metrics::{Metric, MetricKind};
use super::readiness::Readiness;
use crate::evidence::{DecisionLog, EventLog, Note};
use crate::fabric::Commons;
use crate::mailbox::{ActorState, Introspection};
use crate::netma::NetworkEye;
use crate::session::{Sessions, StartError};
use crate::supervision::{Event, EventKind};
use crate::swm::post::Post;

/// Longest control message: a report of a full node.
const SESSION_MESSAGE_MAX: usize = 1 << 20;

/// How to become a member.
#[derive(Debug, Clone)]
pub struct MemberConfig {
    /// Name, for people.
    pub name: String,
    /// Folder of everything that is kept.
    pub state: PathBuf,
    /// UDP address.
    pub listen: SocketAddr,
    /// Whether members of other clusters cannot dial it.
    pub dial_out_only: bool,
    /// What must hold before the process is ready, and why it does not yet.
    pub conditions: Vec<(&'static str, &'static str)>,
    /// Whether faults may be injected.
    pub faults: bool,
    /// Whom it trusts.
    pub trust: Trust,
    /// Gives others fresh certificates, if it may.
    pub renew: Option<Arc<dyn RenewHandler>>,
}

/// Why a process could not take its place.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The endpoint.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The sessions.
    #[error(transparent)]
    Sessions(#[from] StartError),
    /// The state folder.
    #[error("state folder {path}: {source}")]
    State {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// See the module.
pub struct Member {
    /// Its name.
    pub name: String,
    /// What its actors share.
    pub commons: Arc<Commons>,
    /// What happened.
    pub events: EventLog,
    /// What was decided.
    pub decisions: DecisionLog,
    /// Its actors.
    pub actors: Introspection,
    /// Whether it is ready.
    pub readiness: Readiness,
    /// What it sees of the network.
    pub network: Arc<NetworkEye>,
    /// Folder of everything that is kept.
    pub state: PathBuf,
    /// Hubs it dials, if it dials any.
    pub hubs: OnceLock<Vec<SocketAddr>>,
    /// Whether members of other clusters cannot dial it.
    pub dial_out_only: bool,
    fact: Mutex<MemberFact>,
    names: Mutex<BTreeMap<AppUid, AppName>>,
}

/// Names of applications remembered, for events.
const NAMES_MAX: usize = 20_000;

impl Member {
    /// Takes its place: binds the endpoint and starts sessions. No actor runs yet.
    ///
    /// # Errors
    /// [`MemberError`]; nothing runs then.
    pub async fn start(
        config: MemberConfig,
        credentials: &Credentials,
        clock: TrustClock,
        join: Option<Arc<dyn JoinHandler>>,
    ) -> Result<Arc<Self>, MemberError> {
        let events = EventLog::open(&config.name, &config.state.join("events.jsonl"));
        let decisions = DecisionLog::open(&config.state.join("decisions.jsonl"));
        let (refusals, refused) = mpsc::channel(256);
        let mut transport_config = TransportConfig::new(config.listen);
        transport_config.clock = clock.clone();
        transport_config.trust = Some(config.trust);
        transport_config.renew = config.renew;
        transport_config.join = join;
        transport_config.refusals = Some(refusals);
        transport_config.faults = config.faults;
        transport_config.limits = Limits::default();
        let transport = Transport::bind(transport_config, credentials)?;
        let own = transport.identity();
        let post = Post::new(own.clone());
        {
            let events = events.clone();
            post.on_refusal(move |from, what| events.tell(message_refused(from, what)));
        }
        let handler = Arc::clone(&post);
        let limits = crate::session::Limits {
            message_bytes_max: SESSION_MESSAGE_MAX,
            backlog_bytes_max: 4 << 20,
            ..crate::session::Limits::default()
        };
        let (sessions, session_events) = Sessions::start(&own, limits, move |from, letter| {
            let post = Arc::clone(&handler);
            Box::pin(async move { post.receive(from, letter).await })
        })
        .await?;
        post.set_sessions(sessions.clone());
        // Not the wall clock, which may have gone back since the last life of this member.
        let started = clock.now();
        let commons = Commons::new(transport, post, sessions, started.0);
        let actors = Introspection::default();
        let readiness = Readiness::new(&config.conditions, actors.clone());
        let fact = MemberFact {
            name: config.name.clone(),
            address: commons.address(),
            version: env!("CARGO_PKG_VERSION").into(),
            started,
            not_ready: Some("starting".into()),
            certificate_expires: credentials.validity().not_after,
            lead: None,
            cut_off: false,
            node: None,
            term: Term::default(),
            pid: std::process::id(),
        };
        tokio::spawn(note_refusals(refused, events.clone()));
        tokio::spawn(note_sessions(session_events, events.clone()));
        let member = Self {
            name: config.name,
            network: NetworkEye::new(Arc::clone(&commons)),
            state: config.state,
            hubs: OnceLock::new(),
            dial_out_only: config.dial_out_only,
            commons,
            events,
            decisions,
            actors,
            readiness,
            fact: Mutex::new(fact),
            names: Mutex::default(),
        };
        // Whoever hears of this member hears first by which key it speaks.
        super::identity::publish(&member, super::IdentityState::default());
        if member.dial_out_only {
            member.commons.publish_fact("dialable", Fact::Dialable(false));
        }
        member.update(|_| {});
        Ok(Arc::new(member))
    }

    /// Remembers an application's name, so that events about its replicas can name it.
    pub fn learn_app(&self, uid: AppUid, name: &AppName) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < NAMES_MAX && !names.contains_key(&uid) {
            names.insert(uid, name.clone());
        }
    }

    /// A replica as people call it: `app/service-0`.
    #[must_use]
    pub fn replica_name(&self, replica: &ReplicaId) -> String {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match names.get(&replica.app) {
            Some(app) => format!("{app}/{}-{}", replica.service, replica.index),
            None => replica.to_string(),
        }
    }

    /// Changes what this member says of itself, and spreads it.
    pub fn update(&self, change: impl FnOnce(&mut MemberFact)) {
        let (fact, waited_for) = {
            let mut fact = self.fact.lock().unwrap_or_else(PoisonError::into_inner);
            let before = (fact.not_ready.is_some(), fact.address);
            change(&mut fact);
            (fact.clone(), before != (fact.not_ready.is_some(), fact.address))
        };
        self.commons.publish_fact("member", Fact::Member(Box::new(fact)));
        if waited_for {
            self.commons.tell_soon();
        }
    }

    /// Spreads whether this member is ready.
    pub fn spread_readiness(&self) {
        let reasons = self.readiness.reasons();
        self.update(|fact| fact.not_ready = (!reasons.is_empty()).then(|| reasons.join("; ")));
    }

    /// What this member says of itself.
    #[must_use]
    pub fn fact(&self) -> MemberFact {
        self.fact.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its actors, for people.
    #[must_use]
    pub fn actor_views(&self) -> Vec<ActorView> {
        self.actors
            .list()
            .into_iter()
            .map(|report| ActorView {
                member: self.name.clone(),
                name: report.name,
                parent: report.parent,
                state: match report.state {
                    ActorState::Running | ActorState::Starting => ActorStateView::Running,
                    ActorState::Restarting => ActorStateView::BackingOff,
                    ActorState::GivenUp => ActorStateView::GivenUp,
                    ActorState::Stopped => ActorStateView::Stopped,
                },
                restarts: report.counters.restarts,
                mailbox_depth: report.counters.depth,
                handled: report.counters.handled,
                handled_per_second: report.handled_per_second,
                wait_p50_us: report.counters.wait_p50_us,
                wait_p99_us: report.counters.wait_p99_us,
                last_error: report.last_error,
            })
            .collect()
    }

    /// Says good-bye and waits until that is sent.
    pub async fn leave(&self) {
        self.commons.sessions.stop().await;
        self.commons.transport.close_all(CloseReason::Shutdown).await;
    }

    /// Metrics every process has.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn metrics(&self) -> Vec<Metric> {
        let metric = |name, help, kind, samples| Metric { name, help, kind, samples };
        let actors = self.actors.list();
        let per_actor = |read: fn(&crate::mailbox::CountersSnapshot) -> u64| {
            actors.iter().map(|a| (vec![("actor", a.name.clone())], read(&a.counters) as f64)).collect()
        };
        let stats = self.commons.transport.stats();
        let refusals = stats
            .refusals()
            .map(|(reason, n)| (vec![("reason", reason.as_str().to_owned())], n as f64))
            .collect();
        let relay = self.commons.transport.relaying().stats();
        let relayed = self.commons.links().values().filter(|linked| linked.connection.is_relayed()).count();
        let passed = [("forwarded", relay.forwarded), ("sent", relay.sent), ("delivered", relay.delivered)];
        let passed =
            passed.iter().map(|(what, n)| (vec![("result", (*what).to_owned())], *n as f64)).collect();
        let drops = relay
            .drops()
            .map(|(reason, n)| (vec![("reason", reason.as_str().to_owned())], n as f64))
            .collect();
        let post = &self.commons.post.counters;
        let load = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed) as f64
        };
        let letters = vec![
            (vec![("result", "delivered".to_owned())], load(&post.delivered)),
            (vec![("result", "lost".to_owned())], load(&post.lost)),
            (vec![("result", "refused".to_owned())], load(&post.refused)),
        ];
        let spoken = self.commons.spoken.counts();
        let spoken = spoken.map(|(kind, n)| (vec![("kind", kind.to_owned())], n as f64)).collect();
        let ready = if self.readiness.reasons().is_empty() { 1.0 } else { 0.0 };
        vec![
            metric("ready", "Whether the process is ready.", MetricKind::Gauge, vec![(vec![], ready)]),
            metric(
                "links",
                "Connections to other members.",
                MetricKind::Gauge,
                vec![(vec![], self.commons.links().len() as f64)],
            ),
            metric(
                "links_relayed",
                "Connections to other members that go through a relay.",
                MetricKind::Gauge,
                vec![(vec![], relayed as f64)],
            ),
            metric(
                "relay_packets",
                "Relayed packets: passed on for others, given to a relay, come from one.",
                MetricKind::Counter,
                passed,
            ),
            metric(
                "relay_forwarded_bytes",
                "Bytes passed on for others, headers included.",
                MetricKind::Counter,
                vec![(vec![], relay.forwarded_bytes as f64)],
            ),
            metric("relay_packets_dropped", "Relayed packets not passed on.", MetricKind::Counter, drops),
            metric("transport_refusals", "Connections and streams refused.", MetricKind::Counter, refusals),
            metric(
                "gossip_messages_sent",
                "Gossip told to others, by what it was about.",
                MetricKind::Counter,
                spoken,
            ),
            metric("control_letters", "Batches of control messages sent.", MetricKind::Counter, letters),
            metric(
                "actor_mailbox_messages",
                "Messages waiting for an actor.",
                MetricKind::Gauge,
                per_actor(|c| c.depth),
            ),
            metric(
                "actor_messages_handled",
                "Messages an actor has taken.",
                MetricKind::Counter,
                per_actor(|c| c.handled),
            ),
            metric(
                "actor_messages_shed",
                "Messages refused because a mailbox was full.",
                MetricKind::Counter,
                per_actor(|c| c.shed),
            ),
            metric(
                "actor_restarts",
                "Starts of an actor after a failure.",
                MetricKind::Counter,
                per_actor(|c| c.restarts),
            ),
        ]
    }
}

/// A member that is who it says has sent what is not its to send.
fn message_refused(from: &Identity, what: &str) -> Note {
    Note {
        kind: EventType::Warning,
        reason: "MessageRefused",
        object_kind: "Member",
        object: from.to_string().trim_start_matches('/').to_owned(),
        message: format!("sent {what}"),
    }
}

/// Every refusal is logged once, with its reason, and becomes an event.
async fn note_refusals(mut refused: mpsc::Receiver<Refusal>, events: EventLog) {
    while let Some(refusal) = refused.recv().await {
        if refusal.reason == RefusalReason::EndedByPeer {
            // The other side refused us, and says so itself; mostly one of two connections made at once.
            tracing::debug!(%refusal, "connection ended by its other side");
            continue;
        }
        events.tell(Note {
            kind: EventType::Warning,
            reason: "ConnectionRefused",
            object_kind: "Peer",
            object: refusal.peer.ip().to_string(),
            message: format!("{}: {}", refusal.reason.as_str(), refusal.detail),
        });
    }
}

async fn note_sessions(mut sessions: mpsc::Receiver<crate::session::Event>, events: EventLog) {
    while let Some(event) = sessions.recv().await {
        match event {
            crate::session::Event::Up(peer) => tracing::debug!(%peer, "actor session up"),
            crate::session::Event::Down(peer, reason) => {
                tracing::debug!(%peer, %reason, "actor session down");
            }
            crate::session::Event::Refused(peer, reason) => {
                events.tell(Note {
                    kind: EventType::Warning,
                    reason: "SessionRefused",
                    object_kind: "Peer",
                    object: peer.to_string().trim_start_matches('/').to_owned(),
                    message: format!("its actor session was refused: {reason}"),
                });
            }
        }
    }
}

/// Turns what supervisors do into events, and into readiness.
pub async fn note_supervision(mut supervision: mpsc::Receiver<Event>, member: Arc<Member>) {
    while let Some(Event { child, kind }) = supervision.recv().await {
        let note = |kind, reason, message| Note {
            kind,
            reason,
            object_kind: "Actor",
            object: child.clone(),
            message,
        };
        match kind {
            EventKind::Started | EventKind::Stopped => tracing::debug!(%child, ?kind, "actor"),
            EventKind::Failed { reason } => {
                member.events.tell(note(EventType::Warning, "ActorFailed", format!("failed: {reason}")));
            }
            EventKind::Restarting { .. } => {
                member.events.tell(note(
                    EventType::Normal,
                    "ActorRestarting",
                    "is started again by its supervisor".into(),
                ));
            }
            EventKind::GivenUp { reason } => {
                let message =
                    format!("is given up on: {reason}; the process is not ready until it is restarted");
                member.events.tell(note(EventType::Warning, "ActorGivenUp", message));
            }
        }
        member.spread_readiness();
    }
}
