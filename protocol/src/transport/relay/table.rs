//! Who may have packets relayed, and under which addresses relayed peers are known to QUIC.
//!
//! A relayed peer has a *virtual address* out of 240.0.0.0/5, which no network routes (RFC 1112 §4). It follows from the
//! member's id and a key of this process: stable while the process lives, and nobody else can guess it. To quinn it is
//! an address like any other, so a relayed connection is an ordinary one.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use subtle::ConstantTimeEq;

use super::budget::Budget;
use super::frame::{Frame, HEADER_LEN, Kind, Tag, header};
use crate::ids::MemberId;
use crate::units::{BootTime, Micros};

/// Relayed peers at once.
pub(super) const PEERS_MAX: usize = 1_024;
/// Of these, such as one relay has brought up by itself.
pub(super) const PEERS_PER_RELAY_MAX: usize = 512;
/// A relayed peer that neither sends nor gets is forgotten after this; connections time out much earlier.
const IDLE_MAX: Micros = Micros::from_secs(60);
/// Between two searches for such peers.
const SWEEP_EVERY: Micros = Micros::from_secs(1);

/// Members that have gone and whose shares are remembered.
const LEFT_MAX: usize = 1_024;

/// First and last first byte of virtual addresses.
const VIRTUAL: std::ops::RangeInclusive<u8> = 240..=247;

/// Whether an address stands for a relayed peer.
pub(super) fn is_virtual(address: SocketAddr) -> bool {
    matches!(address.ip().to_canonical(), IpAddr::V4(ip) if VIRTUAL.contains(&ip.octets()[0]))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

macro_rules! drops {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a relayed packet was not passed on. The texts are stable: metrics use them as labels.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RelayDrop {
            $($(#[$doc])* $name,)*
        }

        impl RelayDrop {
            /// All reasons.
            pub const ALL: &'static [RelayDrop] = &[$(RelayDrop::$name,)*];

            /// Stable text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(RelayDrop::$name => $text,)*
                }
            }
        }
    };
}

drops! {
    /// It cannot be read.
    Malformed = "malformed",
    /// Its source is not the address of a live authenticated connection.
    UnknownSender = "unknown_sender",
    /// It does not show what only the other end of that connection knows.
    WrongTag = "wrong_tag",
    /// This member relays nothing.
    NotServing = "not_serving",
    /// Its destination has no live connection here.
    UnknownDestination = "unknown_destination",
    /// Sender or receiver has used up its share.
    OverBudget = "over_budget",
    /// It comes from a member that is no relay of ours.
    NotARelay = "not_a_relay",
    /// As many relayed peers as allowed are known.
    TooManyPeers = "too_many_peers",
    /// To be sent, but no relay is connected.
    NoRelay = "no_relay",
    /// To be sent, but longer than is relayed.
    TooLong = "too_long",
    /// The socket did not take it.
    SendFailed = "send_failed",
    /// More has arrived than is read.
    QueueFull = "queue_full",
}

/// A member at the other end of a live authenticated connection that is not itself relayed.
#[derive(Debug, Clone)]
pub(super) struct Neighbour {
    /// Which connection.
    pub(super) connection: usize,
    /// Where it is at the moment.
    pub(super) address: SocketAddr,
    /// Our own address in its eyes.
    pub(super) source: Option<IpAddr>,
    /// What we show it.
    pub(super) shows: Tag,
    /// What it shows us.
    pub(super) expects: Tag,
    /// Whether it may bring packets of others, and take ours to them.
    pub(super) relays: bool,
}

struct Known {
    is: Neighbour,
    sends: Budget,
    gets: Budget,
}

#[derive(Debug, Clone, Copy)]
struct Peer {
    member: MemberId,
    relay: MemberId,
    used: BootTime,
}

/// Where a packet goes, and what before its inner part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Hop {
    pub(in super::super) to: SocketAddr,
    pub(in super::super) source: Option<IpAddr>,
    pub(in super::super) header: [u8; HEADER_LEN],
}

/// What becomes of a packet that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Incoming {
    /// It goes on to somebody else; the header is as long as the one it has.
    Forward(Hop),
    /// Its inner part is for us, from this virtual address.
    Deliver(SocketAddr),
}

/// Why a member cannot be dialled through a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// There is no direct connection to the relay.
    #[error("there is no direct connection to that relay")]
    NotConnected,
    /// It relays nothing for us.
    #[error("that member is no relay")]
    NotARelay,
    /// Nobody relays to itself.
    #[error("relay and destination are the same member, or the destination is this one")]
    Itself,
    /// The table is full, or two members have the same virtual address by chance.
    #[error("too many members are reached through relays")]
    TooManyPeers,
}

/// See the module.
pub(super) struct Table {
    own: MemberId,
    key: u128,
    serves: bool,
    neighbours: BTreeMap<MemberId, Known>,
    /// By canonical address.
    sources: BTreeMap<SocketAddr, MemberId>,
    peers: BTreeMap<SocketAddr, Peer>,
    /// What is left of the shares of members that have gone: connecting anew gives nobody a new one.
    left: BTreeMap<MemberId, (Budget, Budget)>,
    next_sweep: BootTime,
}

impl Table {
    pub(super) fn new(own: MemberId, key: u128) -> Self {
        Self {
            own,
            key,
            serves: false,
            neighbours: BTreeMap::new(),
            sources: BTreeMap::new(),
            peers: BTreeMap::new(),
            left: BTreeMap::new(),
            next_sweep: BootTime(0),
        }
    }

    pub(super) fn set_serves(&mut self, serves: bool) {
        self.serves = serves;
    }

    pub(super) fn peers(&self) -> usize {
        self.peers.len()
    }

    /// A member is connected, has moved, or has become a relay. What it has used up stays used up.
    pub(super) fn admit(&mut self, now: BootTime, member: MemberId, is: Neighbour) {
        if member == self.own || is_virtual(is.address) {
            return;
        }
        let address = canonical(is.address);
        if let Some(old) = self.neighbours.get(&member) {
            let before = canonical(old.is.address);
            if before != address && self.sources.get(&before) == Some(&member) {
                self.sources.remove(&before);
            }
        }
        self.sources.insert(address, member);
        match self.neighbours.get_mut(&member) {
            Some(known) => known.is = is,
            None => {
                let left = self.left.remove(&member);
                let (sends, gets) = left.unwrap_or_else(|| (Budget::new(now), Budget::new(now)));
                let known = Known { is, sends, gets };
                self.neighbours.insert(member, known);
            }
        }
    }

    /// A connection is over; nothing happens if the member has another one by now.
    pub(super) fn withdraw(&mut self, member: MemberId, connection: usize) {
        if self.neighbours.get(&member).is_none_or(|known| known.is.connection != connection) {
            return;
        }
        if let Some(known) = self.neighbours.remove(&member) {
            let address = canonical(known.is.address);
            if self.sources.get(&address) == Some(&member) {
                self.sources.remove(&address);
            }
            if self.left.len() >= LEFT_MAX {
                self.left.pop_first();
            }
            self.left.insert(member, (known.sends, known.gets));
        }
    }

    /// The virtual address of a member.
    pub(super) fn address_of(&self, member: MemberId) -> SocketAddr {
        let mut hasher = DefaultHasher::new();
        (self.key, member.0).hash(&mut hasher);
        let [a, b, c, d, e, f, ..] = hasher.finish().to_le_bytes();
        let ip = Ipv4Addr::new(*VIRTUAL.start() | (a & 7), b, c, d);
        SocketAddr::from((ip, u16::from_le_bytes([e, f]).max(1)))
    }

    /// Opens the way to a member through a relay, or turns it there; returns the member's virtual address.
    pub(super) fn open(
        &mut self,
        now: BootTime,
        member: MemberId,
        relay: MemberId,
    ) -> Result<SocketAddr, RelayError> {
        if member == relay || member == self.own {
            return Err(RelayError::Itself);
        }
        let known = self.neighbours.get(&relay).ok_or(RelayError::NotConnected)?;
        if !known.is.relays {
            return Err(RelayError::NotARelay);
        }
        self.turn(now, member, relay, PEERS_MAX).ok_or(RelayError::TooManyPeers)
    }

    fn turn(
        &mut self,
        now: BootTime,
        member: MemberId,
        relay: MemberId,
        of_relay_max: usize,
    ) -> Option<SocketAddr> {
        let address = self.address_of(member);
        if let Some(peer) = self.peers.get_mut(&address) {
            if peer.member != member {
                return None;
            }
            (peer.relay, peer.used) = (relay, now);
            return Some(address);
        }
        self.sweep(now);
        let of_relay = self.peers.values().filter(|peer| peer.relay == relay).count();
        if self.peers.len() >= PEERS_MAX || of_relay >= of_relay_max {
            return None;
        }
        self.peers.insert(address, Peer { member, relay, used: now });
        Some(address)
    }

    fn sweep(&mut self, now: BootTime) {
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            self.peers.retain(|_, peer| now.since(peer.used) < IDLE_MAX);
        }
    }

    /// Who is behind a virtual address, and through which relay.
    pub(super) fn via(&self, address: SocketAddr) -> Option<(MemberId, MemberId)> {
        self.peers.get(&canonical(address)).map(|peer| (peer.member, peer.relay))
    }

    /// Where a packet to a virtual address goes. Where its relay is gone, any other one of ours takes it.
    pub(super) fn outgoing(&mut self, now: BootTime, to: SocketAddr) -> Result<Hop, RelayDrop> {
        let peer = self.peers.get_mut(&canonical(to)).ok_or(RelayDrop::NoRelay)?;
        let relays = |id: &MemberId| self.neighbours.get(id).filter(|known| known.is.relays);
        let relay = match relays(&peer.relay) {
            Some(known) => known,
            None => {
                let mut others = self.neighbours.iter();
                let other = others.find(|(id, known)| known.is.relays && **id != peer.member);
                let (id, known) = other.ok_or(RelayDrop::NoRelay)?;
                peer.relay = *id;
                known
            }
        };
        peer.used = now;
        let Neighbour { address, source, shows, .. } = relay.is;
        Ok(Hop { to: address, source, header: header(Kind::To, shows, peer.member) })
    }

    /// What becomes of a packet that came from `from`.
    pub(super) fn incoming(
        &mut self,
        now: BootTime,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<Incoming, RelayDrop> {
        let frame = Frame::read(datagram).ok_or(RelayDrop::Malformed)?;
        let sender = *self.sources.get(&canonical(from)).ok_or(RelayDrop::UnknownSender)?;
        let known = self.neighbours.get_mut(&sender).ok_or(RelayDrop::UnknownSender)?;
        if !bool::from(known.is.expects.ct_eq(&frame.tag)) {
            return Err(RelayDrop::WrongTag);
        }
        match frame.kind {
            Kind::From if !known.is.relays => Err(RelayDrop::NotARelay),
            Kind::From if frame.member == self.own || frame.member == sender => Err(RelayDrop::Malformed),
            Kind::From => {
                let address = self.turn(now, frame.member, sender, PEERS_PER_RELAY_MAX);
                address.map(Incoming::Deliver).ok_or(RelayDrop::TooManyPeers)
            }
            Kind::To if !self.serves => Err(RelayDrop::NotServing),
            Kind::To => {
                if !known.sends.allows(now, datagram.len()) {
                    return Err(RelayDrop::OverBudget);
                }
                // Paid for in any case: what leads nowhere costs as much.
                known.sends.take(datagram.len());
                if frame.member == sender {
                    return Err(RelayDrop::UnknownDestination);
                }
                let to = self.neighbours.get_mut(&frame.member).ok_or(RelayDrop::UnknownDestination)?;
                if !to.gets.allows(now, datagram.len()) {
                    return Err(RelayDrop::OverBudget);
                }
                to.gets.take(datagram.len());
                let Neighbour { address, source, shows, .. } = to.is;
                Ok(Incoming::Forward(Hop { to: address, source, header: header(Kind::From, shows, sender) }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::{BURST_SECONDS, PACKETS_PER_SECOND};
    use super::super::frame::MARKER;
    use super::*;

    const RELAY: MemberId = MemberId(1);
    const A: MemberId = MemberId(2);
    const B: MemberId = MemberId(3);
    const NOW: BootTime = BootTime(1_000_000);
    const INNER: [u8; 40] = [0x40; 40];

    fn at(member: MemberId) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, u8::try_from(member.0).unwrap()], 7_400))
    }

    fn tag(from: MemberId, to: MemberId) -> Tag {
        let (from, to) = (u8::try_from(from.0).unwrap(), u8::try_from(to.0).unwrap());
        [from, to, 9, 9, 9, 9, 9, 9]
    }

    fn neighbour(own: MemberId, other: MemberId) -> Neighbour {
        Neighbour {
            connection: 7,
            address: at(other),
            source: None,
            shows: tag(own, other),
            expects: tag(other, own),
            relays: other == RELAY,
        }
    }

    fn end(own: MemberId) -> Table {
        let mut table = Table::new(own, own.0);
        table.admit(NOW, RELAY, neighbour(own, RELAY));
        table
    }

    fn relay() -> Table {
        let mut table = Table::new(RELAY, 1);
        table.set_serves(true);
        for member in [A, B] {
            table.admit(NOW, member, neighbour(RELAY, member));
        }
        table
    }

    fn packet(header: &[u8]) -> Vec<u8> {
        [header, &INNER].concat()
    }

    #[test]
    fn packet_between_two_ends_goes_through_the_relay_under_its_senders_name() {
        let (mut a, mut relay, mut b) = (end(A), relay(), end(B));
        let address = a.open(NOW, B, RELAY).unwrap();
        assert!(is_virtual(address) && !is_virtual(at(B)));
        let first = a.outgoing(NOW, address).unwrap();
        assert_eq!(first.to, at(RELAY));
        let Incoming::Forward(second) = relay.incoming(NOW, at(A), &packet(&first.header)).unwrap() else {
            panic!("for the relay itself")
        };
        assert_eq!(second.to, at(B));
        let arrived = b.incoming(NOW, at(RELAY), &packet(&second.header)).unwrap();
        assert_eq!(arrived, Incoming::Deliver(b.address_of(A)));
        assert_eq!(b.via(b.address_of(A)), Some((A, RELAY)), "the answer goes back the same way");
        assert_eq!(b.outgoing(NOW, b.address_of(A)).unwrap().to, at(RELAY));
    }

    #[test]
    fn packet_without_a_live_connection_or_its_tag_is_dropped() {
        let mut relay = relay();
        let good = packet(&header(Kind::To, tag(A, RELAY), B));
        assert!(relay.incoming(NOW, at(A), &good).is_ok());
        let from_b = relay.incoming(NOW, at(B), &good);
        assert_eq!(from_b, Err(RelayDrop::WrongTag), "somebody who has seen a packet of another one");
        let stranger = SocketAddr::from(([198, 51, 100, 1], 7_400));
        assert_eq!(relay.incoming(NOW, stranger, &good), Err(RelayDrop::UnknownSender));
        let spoofed = packet(&header(Kind::To, [0; 8], B));
        assert_eq!(relay.incoming(NOW, at(A), &spoofed), Err(RelayDrop::WrongTag), "a forged source");
        let nowhere = packet(&header(Kind::To, tag(A, RELAY), MemberId(99)));
        assert_eq!(relay.incoming(NOW, at(A), &nowhere), Err(RelayDrop::UnknownDestination));
        let back = packet(&header(Kind::To, tag(A, RELAY), A));
        assert_eq!(relay.incoming(NOW, at(A), &back), Err(RelayDrop::UnknownDestination));
        relay.withdraw(A, 6);
        assert!(relay.incoming(NOW, at(A), &good).is_ok(), "another connection has ended");
        relay.withdraw(A, 7);
        assert_eq!(relay.incoming(NOW, at(A), &good), Err(RelayDrop::UnknownSender));
        relay.set_serves(false);
        let of_b = packet(&header(Kind::To, tag(B, RELAY), A));
        assert_eq!(relay.incoming(NOW, at(B), &of_b), Err(RelayDrop::NotServing));
    }

    #[test]
    fn member_that_moves_is_known_at_its_new_address_only() {
        let mut relay = relay();
        let moved = SocketAddr::from(([203, 0, 113, 5], 1));
        relay.admit(NOW, A, Neighbour { address: moved, ..neighbour(RELAY, A) });
        let good = packet(&header(Kind::To, tag(A, RELAY), B));
        assert_eq!(relay.incoming(NOW, at(A), &good), Err(RelayDrop::UnknownSender));
        assert!(relay.incoming(NOW, moved, &good).is_ok());
    }

    #[test]
    fn packets_beyond_a_members_share_are_dropped_and_nobody_elses() {
        let mut relay = relay();
        relay.admit(NOW, MemberId(4), neighbour(RELAY, MemberId(4)));
        let of = |from, to| packet(&header(Kind::To, tag(from, RELAY), to));
        let passed = (0..100_000).filter(|_| relay.incoming(NOW, at(A), &of(A, B)).is_ok()).count();
        assert_eq!(passed as u64, PACKETS_PER_SECOND * BURST_SECONDS);
        assert_eq!(relay.incoming(NOW, at(A), &of(A, MemberId(4))), Err(RelayDrop::OverBudget));
        let c = MemberId(4);
        assert_eq!(relay.incoming(NOW, at(c), &of(c, B)), Err(RelayDrop::OverBudget), "B gets no more");
        assert!(relay.incoming(NOW, at(c), &of(c, A)).is_ok(), "A gets what is its own share");
        relay.withdraw(A, 7);
        relay.admit(NOW, A, neighbour(RELAY, A));
        assert_eq!(
            relay.incoming(NOW, at(A), &of(A, B)),
            Err(RelayDrop::OverBudget),
            "connecting anew is no way out"
        );
    }

    #[test]
    fn peers_are_taken_from_relays_only_and_bounded_and_idle_ones_make_room() {
        let mut b = end(B);
        b.admit(NOW, A, neighbour(B, A));
        let from = |relay, member| packet(&header(Kind::From, tag(relay, B), member));
        assert_eq!(b.incoming(NOW, at(A), &from(A, MemberId(50))), Err(RelayDrop::NotARelay));
        assert_eq!(b.open(NOW, MemberId(50), A), Err(RelayError::NotARelay));
        assert_eq!(b.open(NOW, MemberId(50), MemberId(77)), Err(RelayError::NotConnected));
        assert_eq!(b.open(NOW, RELAY, RELAY), Err(RelayError::Itself));
        for own in [B, RELAY] {
            assert_eq!(b.incoming(NOW, at(RELAY), &from(RELAY, own)), Err(RelayDrop::Malformed));
        }
        let claimed = |b: &mut Table, now, first: u128| {
            (first..first + 5_000)
                .filter(|n| b.incoming(now, at(RELAY), &from(RELAY, MemberId(*n))).is_ok())
                .count()
        };
        assert_eq!(claimed(&mut b, NOW, 1_000), PEERS_PER_RELAY_MAX, "one relay cannot fill it");
        assert!(b.open(NOW, MemberId(50), RELAY).is_ok(), "whom we dial has room");
        assert_eq!(b.peers(), PEERS_PER_RELAY_MAX + 1);
        let later = NOW + IDLE_MAX;
        assert_eq!(claimed(&mut b, later, 50_000), PEERS_PER_RELAY_MAX);
        assert_eq!(b.via(b.address_of(MemberId(1_000))), None);
    }

    #[test]
    fn peer_whose_relay_is_gone_is_reached_through_another_or_not_at_all() {
        let mut a = end(A);
        let second = MemberId(5);
        a.admit(NOW, second, Neighbour { relays: true, ..neighbour(A, second) });
        let address = a.open(NOW, B, RELAY).unwrap();
        a.withdraw(RELAY, 7);
        assert_eq!(a.outgoing(NOW, address).unwrap().to, at(second));
        assert_eq!(a.via(address), Some((B, second)));
        a.withdraw(second, 7);
        assert_eq!(a.outgoing(NOW, address), Err(RelayDrop::NoRelay));
    }

    #[test]
    fn virtual_addresses_are_stable_differ_and_are_found_in_both_forms() {
        let table = Table::new(A, 42);
        let all: std::collections::BTreeSet<_> = (0..10_000).map(|n| table.address_of(MemberId(n))).collect();
        assert_eq!(all.len(), 10_000);
        for address in all {
            let IpAddr::V4(ip) = address.ip() else { panic!("{address}") };
            let mapped = SocketAddr::from((ip.to_ipv6_mapped(), address.port()));
            assert!(is_virtual(address) && is_virtual(mapped) && address.port() != 0);
        }
        assert_ne!(table.address_of(B), Table::new(A, 43).address_of(B), "nobody else can guess it");
        assert!(!is_virtual(SocketAddr::from(([255, 255, 255, 255], 1))));
    }

    #[test]
    fn hostile_packets_change_nothing_but_counts() {
        let (mut table, mut random) = (relay(), fastrand::Rng::with_seed(3));
        table.admit(NOW, MemberId(4), Neighbour { relays: true, ..neighbour(RELAY, MemberId(4)) });
        for _ in 0..200_000 {
            let len = random.usize(..80);
            let mut bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
            if let [first, form, ..] = &mut bytes[..] {
                (*first, *form) = (MARKER, [0x11, 0x12, random.u8(..)][random.usize(..3)]);
            }
            let from = at(MemberId(random.u128(1..6)));
            assert!(table.incoming(NOW, from, &bytes).is_err(), "the tag cannot be guessed");
        }
        assert_eq!((table.peers(), table.neighbours.len(), table.sources.len()), (0, 3, 3));
    }
}
