//! Actor sessions: remote calls between processes, through ractor_cluster over QUIC streams.
//!
//! Each process runs one ractor_cluster node and one remotable actor, the facade. A session joins two facades
//! over one bidirectional QUIC stream of a mutually authenticated connection. Who a message comes from is not
//! what it says, nor what ractor_cluster's handshake says: every frame starts with the 16-byte *binding* that
//! both ends derived from the TLS exporter (RFC 8446 §7.5) of their connection, which nobody else can know, and
//! the receiver looks up whose connection that is.
//!
//! ractor_cluster has no flow control, so sessions carry only small control messages: size, calls in flight and
//! bytes waiting to be sent are bounded per session, and beyond that calls are refused at once. Every call has a
//! timeout. A process group only tells *where* the peer's facade is, and is believed only for actors that live
//! behind that peer's own session; authority never comes from a group.

mod counters;
mod facade;
mod frame;
mod handshake;
mod limits;
mod sessions;
mod stream;
mod table;

pub use counters::SessionCounters;
pub use frame::{Binding, Refusal};
pub use limits::Limits;
pub use sessions::{AttachError, CallError, Event, SessionInfo, Sessions, StartError};
pub use table::DownReason;
