//! What must always hold, each with the sentence it protects.

use std::fmt;

/// A rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invariant {
    /// I1.
    Promises,
    /// I2.
    Single,
    /// I2, at the level of mandates.
    Returned,
    /// I2, at the level of leads.
    OneLead,
    /// I3.
    Replay,
    /// I4.
    Reservations,
    /// I5.
    Unknown,
    /// I6.
    Stops,
    /// I6.
    Deleted,
    /// Journals.
    Journal,
    /// Journals.
    Durable,
    /// I7.
    Links,
    /// I8.
    Converges,
    /// I8, while a service changes.
    Budget,
    /// Brakes.
    Brakes,
    /// Bounds.
    Bounded,
    /// A core failed.
    Panic,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promises => "I1: a node never promises more than its capacity less known foreign use",
            Self::Single => "I2: a fence replica runs on at most one node of all clusters",
            Self::Returned => "I2: what was given back does not run, and never will under that mandate",
            Self::OneLead => "I2: at most one lead of a cluster acts at a time",
            Self::Replay => "I3: a message that comes twice changes nothing",
            Self::Reservations => "I4: every reservation ends in commit, release or expiry",
            Self::Unknown => "I5: unknown is never free, absent or zero",
            Self::Stops => "I6: what runs is stopped only by a newer decision",
            Self::Deleted => "I6: the deleted never return",
            Self::Journal => "journal: a snapshot stands for the records it replaces",
            Self::Durable => "journal: what was promised to others is there after a crash",
            Self::Links => "I7: ASSURED channels never reserve more of a link or an uplink than it has",
            Self::Converges => {
                "I8: once faults stop, every feasible replica runs exactly once at its newest generation, the rest is \
                 gone, and home, lead and ledger agree"
            }
            Self::Budget => "I8: a change takes away at most as many copies of a service as its budget allows",
            Self::Brakes => "brakes: of what a lead misses nothing is moved while most of it is missing",
            Self::Bounded => "bounds: no queue and no journal grows without end",
            Self::Panic => "a core never panics",
        })
    }
}

/// A rule was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}\n  {detail}")]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// By what.
    pub detail: String,
}

impl Violation {
    pub(crate) fn of(invariant: Invariant, detail: impl Into<String>) -> Self {
        Self { invariant, detail: detail.into() }
    }

    /// A core has panicked, with this.
    pub(crate) fn of_panic(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Self::of(Invariant::Panic, text.unwrap_or_default())
    }
}

/// Refuses unless `holds`.
pub(crate) fn check(
    holds: bool,
    invariant: Invariant,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::of(invariant, detail())) }
}
