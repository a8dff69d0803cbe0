//! What a stream is for: its first byte.

/// Kind of a bidirectional stream. The numbers are part of the wire format: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StreamKind {
    /// The hello of a connection, and later control messages between the same members.
    Control = 1,
    /// Gossip: membership and state.
    Gossip = 2,
    /// A session between actor systems.
    ActorSession = 3,
    /// Traffic of a channel between two services.
    ChannelTunnel = 4,
    /// Questions about this process.
    Introspection = 5,
    /// A request to join; only on connections without a certificate.
    Join = 6,
    /// A request for a fresh certificate; only on connections made for that.
    Renew = 7,
}

impl StreamKind {
    /// The byte a stream of this kind starts with.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The kind a byte stands for.
    #[must_use]
    pub const fn of_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Control,
            2 => Self::Gossip,
            3 => Self::ActorSession,
            4 => Self::ChannelTunnel,
            5 => Self::Introspection,
            6 => Self::Join,
            7 => Self::Renew,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_kind_read_from_its_byte_is_the_same_and_other_bytes_are_none() {
        let known: Vec<u8> =
            (0..=255).filter(|b| StreamKind::of_byte(*b).is_some_and(|kind| kind.byte() == *b)).collect();
        assert_eq!(known, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((0..=255).filter(|b| StreamKind::of_byte(*b).is_some()).count(), 7);
    }
}
