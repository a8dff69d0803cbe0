//! Why connections end.

use std::fmt;

use quinn::VarInt;

use super::refusal::RefusalReason;

/// Codes of refusals start here; below are the other reasons.
const REFUSED_BASE: u32 = 0x100;

/// Why a connection was closed, as the other side is told (QUIC application error code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// Nobody holds the connection any more.
    Dropped,
    /// The process stops.
    Shutdown,
    /// There is another connection between the same members.
    Duplicate,
    /// Nothing needs it at the moment.
    Unneeded,
    /// The peer was told to leave, or is not a member any more.
    Removed,
    /// The join is over, one way or the other.
    JoinDone,
    /// The peer is not acceptable.
    Refused(RefusalReason),
    /// A code this version does not know.
    Other(u32),
}

impl CloseReason {
    pub(super) fn code(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Dropped => 0,
            Self::Shutdown => 1,
            Self::Duplicate => 2,
            Self::Unneeded => 3,
            Self::Removed => 4,
            Self::JoinDone => 5,
            Self::Refused(reason) => REFUSED_BASE + u32::try_from(reason.index()).unwrap_or(0xff),
            Self::Other(code) => code,
        })
    }

    pub(super) fn of_code(code: VarInt) -> Self {
        let code = u32::try_from(code.into_inner()).unwrap_or(u32::MAX);
        match code {
            0 => Self::Dropped,
            1 => Self::Shutdown,
            2 => Self::Duplicate,
            3 => Self::Unneeded,
            4 => Self::Removed,
            5 => Self::JoinDone,
            _ => code
                .checked_sub(REFUSED_BASE)
                .and_then(|index| RefusalReason::ALL.get(usize::try_from(index).ok()?))
                .map_or(Self::Other(code), |reason| Self::Refused(*reason)),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped => f.write_str("dropped"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::Duplicate => f.write_str("duplicate"),
            Self::Unneeded => f.write_str("unneeded"),
            Self::Removed => f.write_str("removed"),
            Self::JoinDone => f.write_str("join done"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Other(code) => write!(f, "code {code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_reason_read_from_its_code_is_the_same() {
        let refusals = RefusalReason::ALL.iter().map(|reason| CloseReason::Refused(*reason));
        let others = [CloseReason::Dropped, CloseReason::Shutdown, CloseReason::Duplicate];
        let more =
            [CloseReason::Unneeded, CloseReason::Removed, CloseReason::JoinDone, CloseReason::Other(77)];
        for reason in refusals.chain(others).chain(more) {
            assert_eq!(CloseReason::of_code(reason.code()), reason);
        }
        assert_eq!(CloseReason::of_code(VarInt::MAX), CloseReason::Other(u32::MAX));
    }

    #[test]
    fn close_codes_are_golden_because_other_versions_read_them() {
        let code = |reason: CloseReason| reason.code().into_inner();
        assert_eq!(code(CloseReason::Shutdown), 1);
        assert_eq!(code(CloseReason::JoinDone), 5);
        let refused = |reason| code(CloseReason::Refused(reason));
        assert_eq!(refused(RefusalReason::NoCertificate), 0x100);
        assert_eq!(refused(RefusalReason::WrongIdentity), 0x103);
        assert_eq!(refused(RefusalReason::TokenUsed), 0x107);
        assert_eq!(refused(RefusalReason::UnknownStreamKind), 0x10e);
        assert_eq!(refused(RefusalReason::UnknownDatagram), 0x114);
    }
}
