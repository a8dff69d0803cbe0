//! QUIC between members: one UDP port and one endpoint per process, which dials and accepts.
//!
//! Every connection is mutually authenticated before anybody sees it: [`Transport::connect`] and
//! [`Transport::accept`] hand out [`PeerConnection`]s whose identity comes from a verified certificate, and only
//! after both sides have spoken. (In TLS 1.3 the dialling side finishes first; it learns that its certificate was
//! refused only from the silence or the error that follows. So the first answer of the peer is the proof.) The same
//! port also serves those who have no certificate yet, under an application protocol of its own: [`join_fleet`].
//!
//! Streams start with one byte that says what they are for ([`StreamKind`]). Everything refused is counted by reason
//! ([`TransportStats`]) and reported once ([`Refusal`]), and disturbs nothing else.
//!
//! | file | concept |
//! |---|---|
//! | `config` | limits, with defaults, reasons and cost |
//! | `endpoint` | bind, dial, close |
//! | `accept` | from a first packet to a member, or to a refusal |
//! | `hello` | the first exchange of a connection |
//! | `connection` | a member at the other end |
//! | `join` | both sides of joining |
//! | `renew` | both sides of getting a fresh certificate |
//! | `refusal` | reasons, counters, reports |
//! | `close` | why connections end |
//! | `socket` | tells garbage from QUIC before quinn sees it |
//! | `impair` | a bad network on purpose, for drills and tests |
//! | `backoff` | when to dial again |
//! | `relay` | packets of members that cannot dial each other |
//! | `reach` | whether UDP gets to a port and back |

mod accept;
mod backoff;
mod close;
mod config;
mod connection;
mod endpoint;
mod hello;
pub(crate) mod hostile;
mod impair;
mod join;
mod reach;
mod refusal;
mod relay;
mod renew;
mod socket;
mod stream;

pub use backoff::{Backoff, BackoffBounds};
pub use close::CloseReason;
pub use config::{Limits, TransportConfig};
pub use connection::{ConnectionEnd, DatagramError, PathSample, PeerConnection, StreamError};
pub use endpoint::{BindError, ConnectError, Transport};
pub use hello::{PROTOCOL_MAX, PROTOCOL_MIN};
pub use impair::{DELAY_MAX, ImpairError, Impairment, Peers, RULE_LIFE_MAX};
pub use join::{JoinConfig, JoinError, join_fleet, join_or_found};
pub use quinn::{RecvStream, SendStream};
pub use reach::{ReachError, reach};
pub use refusal::{Refusal, RefusalReason, TransportStats};
pub use relay::{RelayDrop, RelayError, RelayStats, Relaying, is_relayed};
pub use renew::RenewError;
pub use stream::StreamKind;
