//! What a relayed packet looks like on the wire.
//!
//! ```text
//! 0        1              2          10                      26
//! | marker | version·kind | tag (8)  | member (16)           | one QUIC packet datagram, untouched
//! ```
//! The first byte tells relayed packets from QUIC by the fixed bit, which QUIC sets and we do not (RFC 9443); 4 to 15 are
//! of no protocol that shares ports that way. With the smallest datagram of QUIC, 1,200 bytes, a relayed packet is 1,226
//! bytes long and so fits the smallest MTU of IPv6 (1,280) with its headers.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::ids::MemberId;

/// First byte.
pub(in super::super) const MARKER: u8 = 0x07;
/// Upper half of the second byte.
const VERSION: u8 = 1;
/// Bytes before the inner packet.
pub(in super::super) const HEADER_LEN: usize = 26;
/// Longest inner packet: what a path of Ethernet could carry, were there no header.
pub(super) const INNER_MAX: usize = 1_472;
/// Long header, or fixed bit: every QUIC packet that is sent here has one of both. So no relayed packet carries another.
const QUIC_BITS: u8 = 0xc0;

/// Shows that a packet comes from the other end of an authenticated connection.
pub(in super::super) type Tag = [u8; 8];

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To the relay: the member is the destination.
    To,
    /// From the relay: the member is the sender.
    From,
}

/// A relayed packet, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) tag: Tag,
    pub(super) member: MemberId,
    pub(super) inner: &'a [u8],
}

impl<'a> Frame<'a> {
    /// `None`: it is none, or of a version nobody here knows.
    pub(super) fn read(datagram: &'a [u8]) -> Option<Self> {
        let (header, inner) = datagram.split_first_chunk::<HEADER_LEN>()?;
        let [marker, form, rest @ ..] = header;
        let kind = match (form >> 4, form & 0x0f) {
            (VERSION, 1) => Kind::To,
            (VERSION, 2) => Kind::From,
            _ => return None,
        };
        let quic = inner.len() <= INNER_MAX && inner.first().is_some_and(|first| first & QUIC_BITS != 0);
        if *marker != MARKER || !quic {
            return None;
        }
        let (tag, member) = rest.split_first_chunk::<8>()?;
        let member = MemberId(u128::from_be_bytes(*member.first_chunk()?));
        Some(Self { kind, tag: *tag, member, inner })
    }
}

/// What goes before an inner packet.
pub(super) fn header(kind: Kind, tag: Tag, member: MemberId) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0] = MARKER;
    header[1] = VERSION << 4
        | match kind {
            Kind::To => 1,
            Kind::From => 2,
        };
    header[2..10].copy_from_slice(&tag);
    header[10..].copy_from_slice(&member.0.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: [u8; 30] = [0x40; 30];

    #[test]
    fn frame_read_from_its_bytes_is_the_same_and_its_bytes_are_golden() {
        let member = MemberId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        for (kind, form) in [(Kind::To, 0x11), (Kind::From, 0x12)] {
            let bytes = [&header(kind, [0xaa; 8], member)[..], &INNER].concat();
            assert_eq!(bytes[..2], [7, form], "other versions read them");
            assert_eq!(bytes[10..26], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
            assert_eq!(Frame::read(&bytes), Some(Frame { kind, tag: [0xaa; 8], member, inner: &INNER }));
        }
        assert_eq!(header(Kind::To, [0; 8], member)[0] & QUIC_BITS, 0, "no QUIC packet begins like that");
    }

    #[test]
    fn frame_of_hostile_bytes_is_read_only_if_every_field_is_in_its_range() {
        let mut random = fastrand::Rng::with_seed(5);
        let good = [&header(Kind::To, [1; 8], MemberId(9))[..], &INNER].concat();
        for cut in 0..=HEADER_LEN {
            assert_eq!(Frame::read(&good[..cut]), None, "cut at {cut}");
        }
        let nested = [&header(Kind::To, [1; 8], MemberId(9))[..], &good].concat();
        assert_eq!(Frame::read(&nested), None, "one in another");
        let long = [&header(Kind::To, [1; 8], MemberId(9))[..], &[0x40; INNER_MAX + 1]].concat();
        assert_eq!(Frame::read(&long), None);
        assert!(Frame::read(&long[..long.len() - 1]).is_some());
        for _ in 0..100_000 {
            let mut bytes = good.clone();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            if let Some(frame) = Frame::read(&bytes) {
                assert_eq!([&header(frame.kind, frame.tag, frame.member)[..], frame.inner].concat(), bytes);
                assert!(frame.inner[0] & QUIC_BITS != 0);
            }
        }
    }
}
