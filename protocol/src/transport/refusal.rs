//! What was refused, and why: counters, and reports for the log.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use quinn::{ConnectionError, TransportErrorCode};
use tokio::sync::mpsc;

use super::close::CloseReason;
use crate::identity::JoinRefusalCode;
use crate::wire::WireError;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why somebody was refused. The texts are stable: metrics and logs use them as labels.
        ///
        /// The order is part of the wire format (close codes): append only.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RefusalReason {
            $($(#[$doc])* $name,)*
        }

        impl RefusalReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [RefusalReason] = &[$(RefusalReason::$name,)*];

            /// Stable text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(RefusalReason::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// A member must show a certificate.
    NoCertificate = "no_certificate",
    /// The certificate comes from another authority.
    ForeignCa = "foreign_ca",
    /// The certificate is not valid now.
    CertificateExpired = "certificate_expired",
    /// The certificate is genuine, but of another name, role or trust domain than is wanted here.
    WrongIdentity = "wrong_identity",
    /// The certificate cannot be read or used.
    BadCertificate = "bad_certificate",
    /// No protocol version in common.
    NoCommonProtocol = "no_common_protocol",
    /// Nobody knows the join token.
    TokenUnknown = "token_unknown",
    /// The join token was used before.
    TokenUsed = "token_used",
    /// The join token has expired.
    TokenExpired = "token_expired",
    /// The join token's secret is wrong.
    TokenWrongSecret = "token_wrong_secret",
    /// The signing request is not acceptable.
    BadSigningRequest = "bad_signing_request",
    /// This process does not admit members.
    JoinUnavailable = "join_unavailable",
    /// A message is longer than its kind allows.
    Oversized = "oversized",
    /// A message cannot be understood.
    Malformed = "malformed",
    /// A stream of a kind nobody knows.
    UnknownStreamKind = "unknown_stream_kind",
    /// The handshake, the hello or the request did not come in time.
    HandshakeTimeout = "handshake_timeout",
    /// The handshake failed in some other way.
    HandshakeFailed = "handshake_failed",
    /// The other side ended the handshake.
    EndedByPeer = "ended_by_peer",
    /// As many connections as allowed are open.
    TooManyConnections = "too_many_connections",
    /// As many handshakes as allowed are under way.
    TooManyHandshakes = "too_many_handshakes",
    /// A datagram that belongs to no connection and cannot start one.
    UnknownDatagram = "unknown_datagram",
    /// The certificate, or the member, was revoked.
    Revoked = "revoked",
    /// More arrives than a member may send.
    Flood = "flood",
    /// Facts of others that these have not signed, or that contradict what is known to be theirs.
    Forged = "forged",
    /// Another process with the same identity has begun a later life.
    Superseded = "superseded",
}

const COUNT: usize = RefusalReason::ALL.len();

impl RefusalReason {
    /// Position in [`RefusalReason::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// What a message that could not be received says about its sender; `None` if its stream just ended, or was silent.
    #[must_use]
    pub fn of_message(error: &WireError) -> Option<Self> {
        match error {
            WireError::TooLong { .. } => Some(Self::Oversized),
            WireError::Deadline { .. } | WireError::Stream { .. } | WireError::Ended { .. } => None,
            WireError::Truncated { .. }
            | WireError::Trailing { .. }
            | WireError::WrongKind { .. }
            | WireError::UnknownFlags { .. }
            | WireError::Undecodable { .. }
            | WireError::Unencodable { .. } => Some(Self::Malformed),
        }
    }

    /// What a failed handshake says about the peer, seen from our side.
    pub(super) fn of_handshake(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::TransportError(e) => Self::of_alert(e.code),
            ConnectionError::TimedOut => Self::HandshakeTimeout,
            ConnectionError::ConnectionClosed(_)
            | ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::LocallyClosed => Self::EndedByPeer,
            ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => Self::HandshakeFailed,
        }
    }

    /// What the peer holds against us, if it said so.
    pub(super) fn of_peers_close(error: &ConnectionError) -> Option<Self> {
        match error {
            ConnectionError::ConnectionClosed(close) => Some(Self::of_alert(close.error_code)),
            ConnectionError::ApplicationClosed(close) => match CloseReason::of_code(close.error_code) {
                CloseReason::Refused(reason) => Some(reason),
                _ => None,
            },
            _ => None,
        }
    }

    /// QUIC carries TLS alerts as 0x100 + alert (RFC 9001 §4.8); the alerts are those of RFC 8446 §6.2. The verifiers
    /// in `identity` answer with 46 where rustls has no alert of its own: the name is not wanted.
    fn of_alert(code: TransportErrorCode) -> Self {
        match u64::from(code) {
            0x02 => Self::TooManyConnections,
            0x12a | 0x12b => Self::BadCertificate,
            0x12c => Self::Revoked,
            0x12d => Self::CertificateExpired,
            0x12e => Self::WrongIdentity,
            0x130 => Self::ForeignCa,
            0x174 => Self::NoCertificate,
            0x178 => Self::NoCommonProtocol,
            _ => Self::HandshakeFailed,
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<JoinRefusalCode> for RefusalReason {
    fn from(code: JoinRefusalCode) -> Self {
        match code {
            JoinRefusalCode::UnknownToken => Self::TokenUnknown,
            JoinRefusalCode::UsedToken => Self::TokenUsed,
            JoinRefusalCode::ExpiredToken => Self::TokenExpired,
            JoinRefusalCode::WrongSecret => Self::TokenWrongSecret,
            JoinRefusalCode::BadSigningRequest => Self::BadSigningRequest,
            JoinRefusalCode::Unavailable => Self::JoinUnavailable,
        }
    }
}

/// One refusal, for the log and for events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who was refused.
    pub peer: SocketAddr,
    /// Why.
    pub reason: RefusalReason,
    /// Particulars, for people.
    pub detail: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused {} ({}): {}", self.peer, self.reason, self.detail)
    }
}

/// Counters since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransportStats {
    refused: [u64; COUNT],
    /// Members accepted.
    pub accepted: u64,
    /// Members dialled with success.
    pub dialled: u64,
    /// New members admitted.
    pub joined: u64,
    /// Fresh certificates given to members.
    pub renewed: u64,
    /// Unvalidated addresses asked to come back with a token (QUIC Retry).
    pub retries: u64,
    /// Refusals that were counted, but whose report did not fit into the channel.
    pub unreported: u64,
}

impl TransportStats {
    /// Refusals for `reason`.
    #[must_use]
    pub fn refused(&self, reason: RefusalReason) -> u64 {
        self.refused[reason.index()]
    }

    /// All refusals, by reason.
    pub fn refusals(&self) -> impl Iterator<Item = (RefusalReason, u64)> + '_ {
        RefusalReason::ALL.iter().map(|reason| (*reason, self.refused(*reason)))
    }
}

/// The living counters behind [`TransportStats`], and the way to whoever logs.
#[derive(Debug, Default)]
pub(super) struct Meter {
    refused: [AtomicU64; COUNT],
    pub(super) accepted: AtomicU64,
    pub(super) dialled: AtomicU64,
    pub(super) joined: AtomicU64,
    pub(super) renewed: AtomicU64,
    pub(super) retries: AtomicU64,
    unreported: AtomicU64,
    reports: Option<mpsc::Sender<Refusal>>,
}

impl Meter {
    pub(super) fn new(reports: Option<mpsc::Sender<Refusal>>) -> Self {
        Self { reports, ..Self::default() }
    }

    /// Counts and reports. Never waits: a flood of refusals must not slow anything down.
    pub(super) fn refuse(&self, peer: SocketAddr, reason: RefusalReason, detail: impl Into<String>) {
        self.count(reason);
        self.report(Refusal { peer, reason, detail: detail.into() });
    }

    /// Counts a datagram that makes no sense. They cost a sender nothing, so only the 1st, 2nd, 4th, 8th … is reported.
    pub(super) fn garbage(&self, peer: SocketAddr) {
        let reason = RefusalReason::UnknownDatagram;
        let count = self.count(reason);
        if count.is_power_of_two() {
            // The same words each time, so that an event counts the reports instead of repeating them.
            let detail = "datagrams that belong to no connection and cannot start one (told at every doubling; \
                          the metrics count each)";
            self.report(Refusal { peer, reason, detail: detail.to_owned() });
        }
    }

    fn count(&self, reason: RefusalReason) -> u64 {
        self.refused[reason.index()].fetch_add(1, Ordering::Relaxed) + 1
    }

    fn report(&self, refusal: Refusal) {
        if let Some(reports) = &self.reports
            && reports.try_send(refusal).is_err()
        {
            self.unreported.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn snapshot(&self) -> TransportStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TransportStats {
            refused: std::array::from_fn(|at| get(&self.refused[at])),
            accepted: get(&self.accepted),
            dialled: get(&self.dialled),
            joined: get(&self.joined),
            renewed: get(&self.renewed),
            retries: get(&self.retries),
            unreported: get(&self.unreported),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> SocketAddr {
        "192.0.2.1:9".parse().unwrap()
    }

    #[test]
    fn reasons_have_distinct_texts_and_their_own_index() {
        for (at, reason) in RefusalReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at);
            assert_eq!(RefusalReason::ALL.iter().filter(|r| r.as_str() == reason.as_str()).count(), 1);
        }
    }

    #[test]
    fn refusals_beyond_the_channel_are_counted_and_counted_as_unreported() {
        let (reports, mut log) = mpsc::channel(2);
        let meter = Meter::new(Some(reports));
        for _ in 0..5 {
            meter.refuse(peer(), RefusalReason::ForeignCa, "who?");
        }
        let stats = meter.snapshot();
        assert_eq!((stats.refused(RefusalReason::ForeignCa), stats.unreported), (5, 3));
        assert_eq!(log.try_recv().unwrap().to_string(), "refused 192.0.2.1:9 (foreign_ca): who?");
    }

    #[test]
    fn garbage_in_a_flood_is_counted_in_full_and_reported_rarely() {
        let (reports, mut log) = mpsc::channel(100);
        let meter = Meter::new(Some(reports));
        for _ in 0..1_000 {
            meter.garbage(peer());
        }
        assert_eq!(meter.snapshot().refused(RefusalReason::UnknownDatagram), 1_000);
        assert_eq!(std::iter::from_fn(|| log.try_recv().ok()).count(), 10);
    }
}
