//! The post: takes control messages from a core of this process to a core of any member.
//!
//! Messages to this very member are handed over directly. Others travel as remote calls over the member's actor
//! session, whose answer brings back what the other side has to say at once. Everything here may fail silently: the
//! cores repeat what is not answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use codeco_protocol::ids::{Identity, MemberId};
use codeco_protocol::messages::{Addressee, BATCH_MAX, ControlBatch, ControlMessage};
use codeco_protocol::wire;

use super::actor::{Core, CoreMessage};
use super::election::elector::Elector;
use super::home::Home;
use super::ledger::Ledger;
use crate::session::Sessions;
use crate::supervision::ChildRef;

/// How long a remote call may take.
const CALL_TIMEOUT: Duration = Duration::from_millis(1_000);
/// How long a core may take to answer a remote call; less than the caller waits.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(800);
/// Letters under way at most; what is more is dropped, and sent again by the cores.
const IN_FLIGHT_MAX: u64 = 1_024;
/// Encoded size at which a letter is cut, to stay below a session's limit.
const LETTER_BYTES: usize = 48 << 10;

/// The cores of this process.
#[derive(Debug, Default, Clone)]
pub struct Cores {
    /// The node's ledger.
    pub ledger: Option<ChildRef<CoreMessage<Ledger>>>,
    /// The elector, which may be the cluster's lead.
    pub elector: Option<ChildRef<CoreMessage<Elector>>>,
    /// The home of applications.
    pub home: Option<ChildRef<CoreMessage<Home>>>,
}

/// What the post counted.
#[derive(Debug, Default)]
pub struct PostCounters {
    /// Letters delivered.
    pub delivered: AtomicU64,
    /// Letters lost: no session, no answer, too many under way.
    pub lost: AtomicU64,
    /// Messages refused because their sender may not send them.
    pub refused: AtomicU64,
}

/// Told of each refused message: its sender, and why.
type Tell = dyn Fn(&Identity, &str) + Send + Sync;

struct Teller(Box<Tell>);

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Teller")
    }
}

/// See the module.
#[derive(Debug)]
pub struct Post {
    own: Identity,
    lead: RwLock<Option<MemberId>>,
    cores: OnceLock<Cores>,
    sessions: OnceLock<Sessions>,
    directory: RwLock<BTreeMap<MemberId, Identity>>,
    in_flight: AtomicU64,
    myself: Weak<Post>,
    on_refusal: OnceLock<Teller>,
    /// What was counted.
    pub counters: PostCounters,
}

impl Post {
    /// A post without sessions or cores: both are added as they start.
    #[must_use]
    pub fn new(own: Identity) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            own,
            lead: RwLock::new(None),
            cores: OnceLock::new(),
            sessions: OnceLock::new(),
            directory: RwLock::new(BTreeMap::new()),
            in_flight: AtomicU64::new(0),
            myself: myself.clone(),
            on_refusal: OnceLock::new(),
            counters: PostCounters::default(),
        })
    }

    /// Says which cores this process has. Once.
    pub fn set_cores(&self, cores: Cores) {
        let set = self.cores.set(cores);
        debug_assert!(set.is_ok(), "the cores of a process are set once");
    }

    /// The home of applications in this process.
    #[must_use]
    pub fn home(&self) -> Option<ChildRef<CoreMessage<Home>>> {
        self.cores.get()?.home.clone()
    }

    /// Says over which sessions to send. Once.
    pub fn set_sessions(&self, sessions: Sessions) {
        let set = self.sessions.set(sessions);
        debug_assert!(set.is_ok(), "the sessions of a process are set once");
    }

    /// Says which member leads this node's cluster: only its orders are passed to the ledger.
    pub fn set_lead(&self, lead: MemberId) {
        *self.lead.write().unwrap_or_else(PoisonError::into_inner) = Some(lead);
    }

    /// Says who is told of refused messages: sender, and what was wrong. Once.
    pub fn on_refusal(&self, tell: impl Fn(&Identity, &str) + Send + Sync + 'static) {
        let set = self.on_refusal.set(Teller(Box::new(tell)));
        debug_assert!(set.is_ok(), "who is told is said once");
    }

    fn refuse(&self, from: &Identity, what: &str) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(Teller(tell)) = self.on_refusal.get() {
            tell(from, what);
        }
    }

    /// Notes a member that has connected, so that letters to its id find it.
    pub fn introduce(&self, identity: &Identity) {
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        directory.insert(identity.id, identity.clone());
    }

    /// Sends, in pieces where there is much. Returns at once.
    pub fn send(&self, to: MemberId, messages: Vec<ControlMessage>) {
        let Some(myself) = self.myself.upgrade() else { return };
        if to == self.own.id {
            tokio::spawn(async move {
                myself.deliver(&myself.own.clone(), messages, false).await;
            });
            return;
        }
        for piece in cut(messages) {
            if self.in_flight.fetch_add(1, Ordering::AcqRel) >= IN_FLIGHT_MAX {
                self.in_flight.fetch_sub(1, Ordering::AcqRel);
                self.counters.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let myself = Arc::clone(&myself);
            tokio::spawn(async move {
                myself.call(to, piece).await;
                myself.in_flight.fetch_sub(1, Ordering::AcqRel);
            });
        }
    }

    async fn call(&self, to: MemberId, messages: Vec<ControlMessage>) {
        let identity = self.directory.read().unwrap_or_else(PoisonError::into_inner).get(&to).cloned();
        let (Some(identity), Some(sessions)) = (identity, self.sessions.get()) else {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let Ok(letter) = wire::encode(&ControlBatch { messages }) else {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let answer = match sessions.call(&identity, &letter, CALL_TIMEOUT).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "a control letter was not answered");
                self.counters.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        self.counters.delivered.fetch_add(1, Ordering::Relaxed);
        match wire::decode::<ControlBatch>(&answer) {
            Ok(batch) => {
                self.deliver(&identity, batch.messages, false).await;
            }
            Err(error) => tracing::warn!(peer = %identity, %error, "a control answer cannot be read"),
        }
    }

    /// Takes a letter that came over the session of `from`, and returns the answer.
    pub async fn receive(&self, from: Identity, letter: Vec<u8>) -> Vec<u8> {
        let answers = match wire::decode::<ControlBatch>(&letter) {
            Ok(batch) => self.deliver(&from, batch.messages, true).await,
            Err(error) => {
                self.refuse(&from, &format!("a control letter that cannot be read: {error}"));
                Vec::new()
            }
        };
        // Answers past the size of a letter are left out; the cores ask again.
        let first = cut(answers).into_iter().next().unwrap_or_default();
        wire::encode(&ControlBatch { messages: first }).unwrap_or_default()
    }

    /// Hands messages to the cores they are for. Waits for answers only where `answer` is set.
    async fn deliver(
        &self,
        from: &Identity,
        messages: Vec<ControlMessage>,
        answer: bool,
    ) -> Vec<ControlMessage> {
        let Some(cores) = self.cores.get() else { return Vec::new() };
        let lead = *self.lead.read().unwrap_or_else(PoisonError::into_inner);
        let mut piles: BTreeMap<u8, Vec<ControlMessage>> = BTreeMap::new();
        for message in messages.into_iter().take(BATCH_MAX) {
            if !may_send(&self.own, lead, from, &message) {
                let to = format!("{:?}", message.addressee()).to_lowercase();
                self.refuse(from, &format!("a message for the {to} that is not the sender's to send"));
                continue;
            }
            let pile = match message.addressee() {
                Addressee::Ledger => 0,
                Addressee::Lead => 1,
                Addressee::Home => 2,
            };
            piles.entry(pile).or_default().push(message);
        }
        let mut answers = Vec::new();
        for (pile, messages) in piles {
            answers.extend(match pile {
                0 => hand_over(cores.ledger.as_ref(), from, messages, answer).await,
                1 => hand_over(cores.elector.as_ref(), from, messages, answer).await,
                _ => hand_over(cores.home.as_ref(), from, messages, answer).await,
            });
        }
        answers
    }
}

/// Whether `from` may send a message to the member `own`, whose lead is `lead`. Role and cluster come from the
/// certificate: orders only from the lead, reports only from nodes of this cluster, answers to a home only from nodes. Any
/// member may be a home: a lead obeys each about the mandates of its own epochs, and no others.
#[must_use]
pub fn may_send(own: &Identity, lead: Option<MemberId>, from: &Identity, message: &ControlMessage) -> bool {
    let same_cluster = from.cluster().is_some() && from.cluster() == own.cluster();
    match message.addressee() {
        Addressee::Ledger => same_cluster && lead == Some(from.id),
        Addressee::Lead => match message {
            ControlMessage::Offer { epoch, .. } | ControlMessage::Recall { epoch, .. } => {
                epoch.owner == from.id
            }
            ControlMessage::BidRequest { .. } | ControlMessage::Watched { .. } => true,
            _ => same_cluster,
        },
        Addressee::Home => match message {
            ControlMessage::Keep { .. } | ControlMessage::Kept { .. } | ControlMessage::Drop { .. } => true,
            _ => from.cluster().is_some(),
        },
    }
}

async fn hand_over<C: Core>(
    core: Option<&ChildRef<CoreMessage<C>>>,
    from: &Identity,
    messages: Vec<ControlMessage>,
    answer: bool,
) -> Vec<ControlMessage> {
    let Some(core) = core else { return Vec::new() };
    let from = from.clone();
    if answer {
        let request = |reply| CoreMessage::Deliver { from, messages, reply: Some(reply) };
        core.call(request, ANSWER_TIMEOUT).await.unwrap_or_default()
    } else {
        // A core that is full or being restarted loses the message, and is sent it again.
        let _ = core.try_send(CoreMessage::Deliver { from, messages, reply: None });
        Vec::new()
    }
}

/// Cuts messages into letters that fit a session.
fn cut(messages: Vec<ControlMessage>) -> Vec<Vec<ControlMessage>> {
    let mut letters = Vec::new();
    let mut letter: Vec<ControlMessage> = Vec::new();
    let mut size = 0;
    for message in messages {
        let own =
            wire::encode(&ControlBatch { messages: vec![message.clone()] }).map_or(0, |bytes| bytes.len());
        if !letter.is_empty() && (size + own > LETTER_BYTES || letter.len() >= BATCH_MAX) {
            letters.push(std::mem::take(&mut letter));
            size = 0;
        }
        size += own;
        letter.push(message);
    }
    if !letter.is_empty() {
        letters.push(letter);
    }
    letters
}
