//! Questions about a process, asked by another member over a stream of its own.

use std::time::Duration;

use async_trait::async_trait;
use bincode::{Decode, Encode};
use codeco_protocol::ids::{AppName, Identity, MemberId, Namespace, ReplicaId};
use codeco_protocol::transport::{PeerConnection, StreamKind};
use codeco_protocol::wire::{self, WireMessage};

use crate::process::Fault;

/// How long a question may take in all.
const DEADLINE: Duration = Duration::from_secs(2);

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum InspectRequest {
    /// Its events, as JSON.
    Events,
    /// Its decisions about an application, or about all, as JSON.
    Decisions(Option<(Namespace, AppName)>),
    /// Its actors, as JSON.
    Actors,
    /// The end of a container's log.
    Logs {
        /// The replica.
        replica: ReplicaId,
        /// The container; `None` is the first.
        container: Option<String>,
        /// At most so many bytes.
        tail_bytes: u32,
    },
    /// Makes an actor panic; only where faults are enabled.
    Panic {
        /// The actor's path, or its last part.
        actor: String,
        /// How often.
        times: u32,
    },
    /// A certificate for the asker's own identity, for a new key or the old one.
    Renew {
        /// PKCS#10 request, DER.
        signing_request: Vec<u8>,
    },
    /// A fault of the process or its network; only where faults are enabled.
    Fault(Fault),
    /// Keeps work away from the node asked, has its work moved away, or lets work come again; answered once that is on
    /// its disk.
    Upkeep(crate::swm::ledger::Upkeep),
    /// Of the lead: that a node is no member any more. Answered once that is on its disk.
    Unenrol {
        /// The node.
        node: MemberId,
        /// Whether an operator says that nothing of it runs.
        forced: bool,
    },
    /// That a member is to be forgotten.
    Forget(MemberId),
    /// Its links, as JSON.
    Links,
    /// What it finds when it looks after itself, as JSON.
    Doctor,
    /// An operator's word: the majority of the voters is lost for good, and the node asked votes alone from now on.
    ReplaceElectorate {
        /// Highest version of an electorate of its cluster that the asker has seen.
        version: u64,
        /// Highest term of its cluster that the asker has seen.
        term: codeco_protocol::token::Term,
    },
    /// The list of authorities and revocations it goes by, signed. Every member may ask.
    Trust,
    /// When its present life began: eight bytes, little-endian. Every member may ask.
    Life,
    /// The applications it speaks for, after the one named: [`AppPages`](crate::acm::apps::AppPages).
    Apps(Option<codeco_protocol::ids::AppUid>),
    /// Of the lead, an operator's word: the nodes that its brake misses are gone. Answered with how many replicas are placed
    /// anew, eight bytes, little-endian.
    ReleaseBrake,
    /// Has the node asked stop for good: it says good-bye, and its process ends. Refused unless it is drained and has
    /// nothing left.
    Leave,
}

impl WireMessage for InspectRequest {
    const KIND: u16 = 64;
    const MAX_LEN: usize = 16 << 10;
}

/// An answer: bytes whose form the question defines, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct InspectReply(pub Result<Vec<u8>, String>);

impl WireMessage for InspectReply {
    const KIND: u16 = 65;
    const MAX_LEN: usize = 1 << 20;
}

/// Answers questions.
#[async_trait]
pub trait Inspector: Send + Sync + 'static {
    /// Answers a question of `from`, an authenticated member. Must check what that member may ask.
    async fn answer(&self, from: &Identity, request: InspectRequest) -> Result<Vec<u8>, String>;
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// The member cannot be asked.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The member said no.
    #[error("{0}")]
    Refused(String),
}

/// Asks the member at the other end.
///
/// # Errors
/// [`InspectError`].
pub async fn inspect(peer: &PeerConnection, request: &InspectRequest) -> Result<Vec<u8>, InspectError> {
    let unreachable = |e: String| InspectError::Unreachable(e);
    let exchange = async {
        let (mut send, mut recv) =
            peer.open_bi(StreamKind::Introspection).await.map_err(|e| unreachable(e.to_string()))?;
        wire::write_frame(&mut send, request, DEADLINE).await.map_err(|e| unreachable(e.to_string()))?;
        let InspectReply(answer) =
            wire::read_frame(&mut recv, DEADLINE).await.map_err(|e| unreachable(e.to_string()))?;
        answer.map_err(InspectError::Refused)
    };
    match tokio::time::timeout(DEADLINE, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(unreachable(format!("no answer within {} s", DEADLINE.as_secs()))),
    }
}
