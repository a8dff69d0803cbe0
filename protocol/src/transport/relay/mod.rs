//! Relaying of opaque QUIC packets, for members that cannot dial each other.
//!
//! A relayed packet is a datagram of its own kind on the same UDP port ([`frame`](self)): a short header, and behind it
//! a QUIC packet that the relay can neither read nor change, because the connection it belongs to has the two members at
//! its ends, with their own certificates. A relay takes such a packet only from the address of a live authenticated
//! connection, and only if it shows a tag that both ends of that connection have derived from its TLS secrets; and
//! passes it on only to another member with such a connection, whose NAT mapping that connection keeps open.
//!
//! So whoever spoofs a source address gains nothing. Who can read packets on the way between a member and its relay can
//! repeat a tag: packets made with it reach the other end, where QUIC drops them, and are paid for out of that member's
//! share, which such an attacker could also cut off by dropping packets. A relay itself can drop, delay and count what it
//! relays, and say who sent it: TLS proves who did.

mod budget;
mod frame;
pub(crate) mod hostile;
mod table;

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quinn::udp::{EcnCodepoint, RecvMeta};

use frame::INNER_MAX;
pub(super) use frame::{HEADER_LEN, MARKER, Tag};
pub(super) use table::{Hop, Incoming};
pub use table::{RelayDrop, RelayError};

use self::table::{Neighbour, Table};
use super::connection::PeerConnection;
use crate::ids::MemberId;
use crate::units::BootTime;

/// Inner packets waiting for quinn to read them.
const INBOX_MAX: usize = 2_048;

const DROPS: usize = RelayDrop::ALL.len();

/// Whether an address stands for a peer that is reached through a relay.
#[must_use]
pub fn is_relayed(address: SocketAddr) -> bool {
    table::is_virtual(address)
}

/// What was relayed, and what was not, since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayStats {
    /// Packets passed on for others.
    pub forwarded: u64,
    /// Bytes passed on for others, headers included.
    pub forwarded_bytes: u64,
    /// Packets given to a relay.
    pub sent: u64,
    /// Packets of relayed peers that have arrived.
    pub delivered: u64,
    /// Relayed peers known.
    pub peers: usize,
    dropped: [u64; DROPS],
}

impl RelayStats {
    /// Packets dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: RelayDrop) -> u64 {
        self.dropped[reason as usize]
    }

    /// All drops, by reason.
    pub fn drops(&self) -> impl Iterator<Item = (RelayDrop, u64)> + '_ {
        RelayDrop::ALL.iter().map(|reason| (*reason, self.dropped(*reason)))
    }
}

/// Why a packet that came in goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) reason: RelayDrop,
    /// How many were dropped for that since the start.
    pub(super) so_far: u64,
}

/// An inner packet on its way to quinn.
struct Inner {
    from: SocketAddr,
    ecn: Option<EcnCodepoint>,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Counters {
    forwarded: AtomicU64,
    forwarded_bytes: AtomicU64,
    sent: AtomicU64,
    delivered: AtomicU64,
    dropped: [AtomicU64; DROPS],
}

/// What a transport relays, and what is relayed to it. Cheap to clone.
#[derive(Clone)]
pub struct Relaying {
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    inbox: Mutex<VecDeque<Inner>>,
    counters: Counters,
    began: Instant,
    /// Whether quinn thinks in addresses of IPv6.
    v6: bool,
}

impl Relaying {
    pub(super) fn new(own: MemberId, key: u128, v6: bool) -> Self {
        Self {
            shared: Arc::new(Shared {
                table: Mutex::new(Table::new(own, key)),
                inbox: Mutex::default(),
                counters: Counters::default(),
                began: Instant::now(),
                v6,
            }),
        }
    }

    /// No lock of quinn's may be taken while this is held: quinn calls us with its own.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self) -> MutexGuard<'_, VecDeque<Inner>> {
        self.shared.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> BootTime {
        BootTime(u64::try_from(self.shared.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// As quinn writes it.
    fn seen(&self, address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(ip) if self.shared.v6 => SocketAddr::from((ip.to_ipv6_mapped(), address.port())),
            _ => address,
        }
    }

    /// Lets the member at the other end of a connection have packets relayed here, if this member relays; with `relays`
    /// it may also bring packets of others, and take ours to them. To be repeated: the member may have moved.
    pub fn admit(&self, connection: &PeerConnection, relays: bool) {
        let (shows, expects) = connection.relay_tags();
        let neighbour = Neighbour {
            connection: connection.stable_id(),
            address: connection.remote_addr(),
            source: connection.local_ip(),
            shows,
            expects,
            relays,
        };
        let (now, member) = (self.now(), connection.identity().id);
        self.table().admit(now, member, neighbour);
    }

    /// A connection that was admitted is over.
    pub fn withdraw(&self, member: MemberId, stable_id: usize) {
        self.table().withdraw(member, stable_id);
    }

    /// Whether this member relays for others.
    pub fn serve(&self, serves: bool) {
        self.table().set_serves(serves);
    }

    /// The address that stands for a member wherever it is reached through a relay, in this process only.
    #[must_use]
    pub fn address_of(&self, member: MemberId) -> SocketAddr {
        self.table().address_of(member)
    }

    /// Opens the way to `member` through `relay`; returns the address to dial.
    ///
    /// # Errors
    /// [`RelayError`].
    pub fn open(&self, member: MemberId, relay: MemberId) -> Result<SocketAddr, RelayError> {
        let now = self.now();
        self.table().open(now, member, relay)
    }

    /// Through which relay the peer at a virtual address is reached.
    #[must_use]
    pub fn via(&self, address: SocketAddr) -> Option<MemberId> {
        self.table().via(address).map(|(_, relay)| relay)
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        let counters = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RelayStats {
            forwarded: get(&counters.forwarded),
            forwarded_bytes: get(&counters.forwarded_bytes),
            sent: get(&counters.sent),
            delivered: get(&counters.delivered),
            peers: self.table().peers(),
            dropped: std::array::from_fn(|at| get(&counters.dropped[at])),
        }
    }

    /// What becomes of a relayed packet that came in. Drops are counted.
    pub(super) fn incoming(&self, from: SocketAddr, datagram: &[u8]) -> Result<Incoming, Dropped> {
        let now = self.now();
        let decided = self.table().incoming(now, from, datagram);
        decided.map_err(|reason| Dropped { reason, so_far: self.drop(reason) })
    }

    /// Where a packet to a virtual address goes. Drops are counted.
    pub(super) fn outgoing(&self, to: SocketAddr, len: usize) -> Option<Hop> {
        if len > INNER_MAX {
            self.drop(RelayDrop::TooLong);
            return None;
        }
        let now = self.now();
        let decided = self.table().outgoing(now, to);
        if let Err(reason) = decided {
            self.drop(reason);
        }
        decided.ok()
    }

    /// Counts; returns how many there were.
    pub(super) fn drop(&self, reason: RelayDrop) -> u64 {
        self.shared.counters.dropped[reason as usize].fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn note_forwarded(&self, len: usize) {
        self.shared.counters.forwarded.fetch_add(1, Ordering::Relaxed);
        self.shared.counters.forwarded_bytes.fetch_add(len as u64, Ordering::Relaxed);
    }

    pub(super) fn note_sent(&self) {
        self.shared.counters.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps an inner packet for quinn. The kernel joins packets of one source, here the relay, whoever their senders
    /// are; quinn wants those of one sender together: so each goes by itself.
    pub(super) fn deliver(&self, from: SocketAddr, ecn: Option<EcnCodepoint>, inner: &[u8]) {
        let mut inbox = self.inbox();
        if inbox.len() >= INBOX_MAX {
            drop(inbox);
            self.drop(RelayDrop::QueueFull);
            return;
        }
        inbox.push_back(Inner { from: self.seen(from), ecn, bytes: inner.to_vec() });
        self.shared.counters.delivered.fetch_add(1, Ordering::Relaxed);
    }

    /// Hands inner packets over, as far as there is room; returns how many.
    pub(super) fn take(&self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> usize {
        let mut inbox = self.inbox();
        let mut count = 0;
        for (buffer, meta) in bufs.iter_mut().zip(meta.iter_mut()) {
            let Some(Inner { from, ecn, bytes }) = inbox.pop_front() else { break };
            let len = bytes.len().min(buffer.len());
            buffer[..len].copy_from_slice(&bytes[..len]);
            *meta = RecvMeta { addr: from, len, stride: len, ecn, dst_ip: None };
            count += 1;
        }
        count
    }
}

impl fmt::Debug for Relaying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relaying({:?})", self.stats())
    }
}
