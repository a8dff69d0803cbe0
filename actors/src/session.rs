//! Actor sessions: remote calls between processes, through ractor_cluster over QUIC streams.
//!
//! Each process runs one ractor_cluster node and one remotable actor, the facade. A session joins two facades
//! over one bidirectional QUIC stream of a mutually authenticated connection. Who a message comes from is not
//! what it says, nor what ractor_cluster's handshake says: it comes over the stream of a session whose peer's
//! certificate was checked, and every request must also start with the 16-byte *binding* that both ends derived
//! from the TLS exporter (RFC 8446 §7.5) of that connection, which nobody else can know.
//!
//! ractor_cluster does the handshake, tells each side the other's facade, and notices ends. Calls themselves take
//! a short cut in and out of the same stream (see `stream`), because its path through four actors and a task at
//! each end costs more than the network does, and has no flow control: here size, calls in flight and bytes
//! waiting to be sent are bounded per session, and beyond that calls are refused at once. Every call has a
//! timeout. A process group only tells *where* the peer's facade is, and is believed only for actors that live
//! behind that peer's own session; authority never comes from a group.

mod cluster_wire;
mod counters;
mod facade;
mod frame;
mod handshake;
pub(crate) mod hostile;
mod lane;
mod limits;
mod sessions;
mod stream;
mod table;

pub use counters::SessionCounters;
pub use frame::{Binding, Refusal};
pub use limits::Limits;
pub use sessions::{AttachError, CallError, Event, SessionInfo, Sessions, StartError};
pub use table::DownReason;
