//! Who somebody is, and how one becomes somebody.
//!
//! Every member holds an Ed25519 key of its own and a certificate that binds it to one SPIFFE id,
//! `spiffe://<trust-domain>/cluster/<c>/node/<uuid>` or `spiffe://<trust-domain>/hub/<uuid>`. Role and cluster are
//! read from that certificate and from nowhere else. A new member proves that it was invited with a [`JoinToken`]: it
//! makes its key locally, sends a signing request and gets a certificate whose names the issuer chose.
//!
//! | file | concept |
//! |---|---|
//! | `spiffe` | the id in a certificate, strictly parsed |
//! | `clock` | the time certificates and tokens are judged by |
//! | `files` | private files, written atomically |
//! | `key` | a member's key |
//! | `ca` | the certificate authority of a trust domain |
//! | `issuer`, `local` | the issuer of one cluster, which renews that cluster's own nodes |
//! | `chain` | what an issuer between authority and member may sign |
//! | `credentials` | key, certificate and authority together: what a member shows |
//! | `join_token`, `token_book` | invitations, and the issuer's record of them |
//! | `registrar` | the issuer's side of joining |
//! | `renewal` | fresh certificates for members, from a hub or from their cluster's issuer |
//! | `serial` | serial numbers |
//! | `trust` | which authorities are trusted, and what was revoked |
//! | `expected`, `tls` | who is wanted at the other end, and the TLS configurations that insist on it |

mod ca;
mod chain;
mod clock;
mod credentials;
mod expected;
mod files;
mod issuer;
mod join_token;
mod key;
mod local;
mod registrar;
mod renewal;
mod serial;
mod spiffe;
mod tls;
mod token_book;
mod trust;

pub use ca::{
    CERTIFICATE_LIFE, Ca, CaError, IssueError, IssuedCertificate, KeyHash, Validity, certificate_pem,
};
pub use chain::{ChainSummary, IssuedBy};
pub use clock::{ClockNote, TrustClock};
pub use credentials::{Credentials, CredentialsError};
pub use expected::Expected;
pub use files::{FileError, read_private, write_private};
pub use issuer::{ClusterIssuer, IssuerError};
pub use join_token::{JoinToken, JoinTokenError, TokenId, TokenSecret};
pub use key::{KeyError, MemberKey};
pub use local::{LocalIssuer, LocalIssuerError};
pub use registrar::{
    JoinGrant, JoinHandler, JoinRefusal, JoinRefusalCode, JoinReply, JoinRequest, Registrar,
};
pub use renewal::{Asker, RenewGrant, RenewHandler, RenewReply, RenewRequest};
pub use serial::{Serial, SerialError};
pub use spiffe::{SpiffeError, SpiffeId, TrustDomain};
pub use tls::{
    ALPN_JOIN, ALPN_MEMBER, ALPN_RENEW, CredentialsSlot, TlsError, join_client_config, member_client_config,
    member_server_config, pinned_client_config, provider,
};
pub use token_book::{RedeemError, TokenBook, TokenBookError, TokenBookLimits};
pub use trust::{
    REVOCATIONS_MAX, Revocation, Revoked, SignedTrust, Trust, TrustError, TrustList, TrustStoreError,
};
