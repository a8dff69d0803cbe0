//! The event log: a digest of all of it, and its last lines.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::io::Write as _;

use codeco_protocol::election::ElectionMessage;
use codeco_protocol::messages::ControlMessage;

/// Lines kept for the report of a failure.
const TAIL: usize = 120;

#[derive(Debug)]
pub(crate) struct EventLog {
    digest: u64,
    tail: VecDeque<String>,
    trace: bool,
    pub(crate) lines: u64,
}

impl EventLog {
    pub(crate) fn new(trace: bool) -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, tail: VecDeque::with_capacity(TAIL), trace, lines: 0 }
    }

    pub(crate) fn line(&mut self, now: u64, text: fmt::Arguments<'_>) {
        let mut line =
            if self.tail.len() == TAIL { self.tail.pop_front().unwrap_or_default() } else { String::new() };
        line.clear();
        // Writing to a String does not fail.
        let _ = write!(line, "{:>4}.{:06} {text}", now / 1_000_000, now % 1_000_000);
        self.digest = fold(self.digest, line.as_bytes());
        if self.trace {
            // A reader that has seen enough closes the pipe; the run goes on for its result.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        self.tail.push_back(line);
        self.lines += 1;
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn into_tail(self) -> Vec<String> {
        self.tail.into()
    }
}

/// FNV-1a (Fowler, Noll, Vo), 64 bits.
pub(crate) fn fold(digest: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(digest, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A control message in a few words.
pub(crate) struct Brief<'a>(pub(crate) &'a ControlMessage);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ControlMessage as M;
        match self.0 {
            M::LeaseRequest { nonce, term_seen, incarnation, facts: _, held, told: _ } => {
                write!(f, "LeaseRequest {:x} term {term_seen} life {incarnation:?} holds", nonce & 0xffff)?;
                held.iter().try_for_each(|h| write!(f, " {} {} {:?}", h.replica, h.token, h.phase))
            }
            M::LeaseGrant { nonce, term, revoke, .. } => {
                write!(f, "LeaseGrant {:x} {term}", nonce & 0xffff)?;
                revoke.iter().try_for_each(|(replica, token)| write!(f, " revokes {replica} {token}"))
            }
            M::Fence { term } => write!(f, "Fence {term}"),
            M::Report { term, facts, held, told: _ } => {
                write!(f, "Report {term} life {:?} holds", facts.incarnation)?;
                held.iter()
                    .try_for_each(|h| write!(f, " {} {} {:?}", h.brief.replica, h.brief.token, h.brief.phase))
            }
            M::Reserve { replica, token, .. } => write!(f, "Reserve {replica} {token}"),
            M::Reserved { replica, token } => write!(f, "Reserved {replica} {token}"),
            M::Commit { replica, token, spec, .. } => {
                write!(f, "Commit {replica} {token} generation {}", spec.generation)
            }
            M::Committed { replica, token } => write!(f, "Committed {replica} {token}"),
            M::Close { term, replica, token } => write!(f, "Close {replica} {token} by {term}"),
            M::Closed { replica, token, reason, .. } => write!(f, "Closed {replica} {token} {reason:?}"),
            M::Stale { highest } => write!(f, "Stale {highest}"),
            M::Status { replica, token, run, told: _ } => write!(f, "Status {replica} {token} {run:?}"),
            M::BidRequest { request, demands, .. } => write!(f, "BidRequest {request} for {}", demands.len()),
            M::Bid { request, lines, .. } => {
                write!(f, "Bid {request}")?;
                lines.iter().try_for_each(|line| match &line.answer {
                    Ok((total, node)) => write!(f, " {} {total:.3} {node}", line.replica),
                    Err(_) => write!(f, " {} no", line.replica),
                })
            }
            M::Offer { term, mandate, replica, spec, .. } => {
                write!(f, "Offer {replica} mandate {} to {term} generation {}", mandate.0, spec.generation)
            }
            M::Accepted { term, replica, generation, token, .. } => {
                write!(f, "Accepted {replica} {token} generation {generation} by {term}")
            }
            M::Declined { term, mandate, replica, reason, .. } => {
                write!(f, "Declined {replica} mandate {} by {term}: {reason}", mandate.0)
            }
            M::Recall { mandate, replica, .. } => write!(f, "Recall {replica} mandate {}", mandate.0),
            M::Returned { term, mandate, replica, .. } => {
                write!(f, "Returned {replica} mandate {} by {term}", mandate.0)
            }
            M::LeadIs { term, .. } => write!(f, "LeadIs {term}"),
            M::Watch { nonce, term, .. } => write!(f, "Watch {nonce:x} by {term}"),
            M::Watched { nonce, term, lost } => write!(f, "Watched {nonce:x} by {term}, lost {lost:?}"),
            M::Keep { app, epoch, revision, .. } => write!(f, "Keep {app} {epoch} revision {revision}"),
            M::Kept { app, epoch, revision } => write!(f, "Kept {app} {epoch} revision {revision}"),
            M::Drop { app, epoch } => write!(f, "Drop {app} {epoch}"),
            M::Election(message) => write!(f, "{}", Letter(message)),
        }
    }
}

/// A message of an election, in one line.
struct Letter<'a>(&'a ElectionMessage);

impl fmt::Display for Letter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ElectionMessage as M;
        match self.0 {
            M::Page { at, number, pages, .. } => {
                write!(f, "Page {number}/{pages} of {}.{}", at.term, at.sequence)
            }
            M::Append { at, .. } => write!(f, "Append {}.{}", at.term, at.sequence),
            other => write!(f, "{other:?}"),
        }
    }
}
