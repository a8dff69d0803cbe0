//! Certificates of members, and the authority above them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::MemberId;
use crate::units::WallTime;

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CertState {
    /// It is good.
    Valid,
    /// It is good, and due for renewal.
    Due,
    /// Its end has passed: its member may only get a fresh one.
    Expired,
    /// It was revoked.
    Revoked,
    /// Its member was certified by this hub, and has told nothing since.
    Unknown,
}

/// A member's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertView {
    /// The member, as people call it: `CLUSTER/NODE`, or the name of a hub.
    pub member: String,
    /// Identity of the member.
    #[schemars(with = "String")]
    pub id: MemberId,
    /// Serial number, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Who signed it: `authority`, or the member that certifies the nodes of its cluster.
    pub issuer: String,
    /// Hash of the key of the authority above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// When it ends.
    pub not_after: WallTime,
    /// How it stands.
    pub state: CertState,
    /// How often the member has got a fresh one since its process started.
    pub renewals: u32,
    /// When, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed: Option<WallTime>,
    /// Until when the member may certify the nodes of its cluster, if it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issues_until: Option<WallTime>,
    /// Whether the member's wall clock is known to be wrong.
    pub clock_unknown: bool,
    /// Version of the list of authorities and revocations the member goes by.
    pub trust: u64,
}

/// What a revocation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevokedView {
    /// What is revoked, in words.
    pub what: String,
    /// Whether it was revoked before.
    pub before: bool,
    /// Version of the list that says so; every member goes by it once `codeco get certs` shows this version.
    pub trust: u64,
}

/// The authority, and how far a hand-over to another one has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaView {
    /// Hash of the key of the authority that issues.
    pub authority: String,
    /// Hashes of the keys of all authorities trusted.
    pub trusted: Vec<String>,
    /// Their certificates, PEM.
    pub certificates: String,
    /// `none`, `madeKnown` (the successor is made known) or `reissuing` (all get new certificates).
    pub handover: String,
    /// Members that the next step waits for.
    pub awaited: Vec<String>,
    /// Version of the list of authorities and revocations.
    pub trust: u64,
    /// Number of revocations in it.
    pub revocations: u32,
}
