//! The HTTP API: JSON over HTTP/1.1 over TLS, for people and programs.
//!
//! Everything asks for a bearer token with a role, unknown paths too: who has no token learns nothing. What a request
//! needs is in [`needed_role`]; anything not named there needs an admin, so that a route added in haste is closed.
//! Handshakes, headers, bodies, requests and connections all have limits ([`Limits`]), each connection is a task of
//! its own, and nothing a stranger sends is answered by more than a refusal that is counted ([`Refusals`]).
//!
//! | file | concept |
//! |---|---|
//! | `server` | connections: TLS, limits, graceful stop |
//! | `peers` | how many connections each address holds |
//! | `routes` | paths, and what each asks of the [`Fleet`](crate::acm::fleet::Fleet) |
//! | `guard` | roles, and who may do what |
//! | `tokens` | API tokens, of which the hub knows hashes only |
//! | `refusals` | counts of refusals, and one report of each a minute |
//! | `reply` | answers that are errors, with stable codes |

mod guard;
mod limits;
mod peers;
mod refusals;
mod reply;
mod requests;
mod routes;
mod server;
mod tokens;

pub use guard::{ApiRole, needed_role};
pub use limits::Limits;
pub use refusals::{REFUSED_QUEUE_MAX, RefusalReason, Refusals, Refused};
pub use requests::{
    ApiTokenRequest, BrakeView, ElectorateRequest, FILE_NAME_HEADER, FaultPeers, FaultRequest, FaultWish,
    ForgetRequest, Forgotten, LostView, MEMBER_HEADER, NewApiToken, PanicRequest, RevokeRequest, TIMES_MAX,
    TTL_SECONDS_MAX, TTL_SECONDS_MIN, TailQuery, TokenRequest, UpkeepRequest, UpkeepWish, VersionView,
};
pub use server::{ApiServer, tls_config};
pub use tokens::{ApiTokens, ApiTokensError, Bearer, TOKENS_MAX, api_tokens};
