//! What crosses the wire in CODECO: ids, units, resources, the application model, control messages,
//! the codec, identity, QUIC transport, and gossip.
//!
//! Two families of types live here and never mix. Types people see (manifest, HTTP API, command line) are in
//! [`api`] and are serde types; types machines exchange are bincode types and only ever pass through [`wire`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod coordinate;
pub mod demands;
pub mod election;
pub mod gossip;
#[doc(hidden)]
pub mod hostile;
pub mod identity;
pub mod ids;
pub mod messages;
pub mod resources;
pub mod token;
pub mod transport;
pub mod units;
pub mod wire;
pub mod workload;
