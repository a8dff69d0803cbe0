//! Tells garbage from QUIC before quinn sees it, so that it can be counted and costs nothing more.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, UdpPoller};

use super::impair::Impairments;
use super::refusal::{Meter, RefusalReason};
use super::relay::{self, Dropped, HEADER_LEN, Incoming, RelayDrop, Relaying};

const NONCE_LEN: usize = 5;
const TAG_LEN: usize = 3;
const CID_LEN: usize = NONCE_LEN + TAG_LEN;

/// QUIC version 1 (RFC 9000 §15), and 0 for version negotiation packets.
const KNOWN_VERSIONS: [u32; 2] = [1, 0];

/// Makes connection ids that can be recognised: a nonce and a keyed tag of it. A filter, not a proof.
#[derive(Clone, Copy)]
pub(super) struct CidMint {
    key: u128,
}

impl CidMint {
    pub(super) fn new() -> Self {
        let mut key = [0; 16];
        fill_random(&mut key);
        Self { key: u128::from_le_bytes(key) }
    }

    fn tag(self, nonce: &[u8]) -> [u8; TAG_LEN] {
        let mut hasher = DefaultHasher::new();
        (self.key, nonce).hash(&mut hasher);
        let [a, b, c, ..] = hasher.finish().to_le_bytes();
        [a, b, c]
    }

    fn is_ours(self, cid: &[u8]) -> bool {
        let (nonce, tag) = cid.split_at(NONCE_LEN.min(cid.len()));
        self.tag(nonce) == *tag
    }
}

impl ConnectionIdGenerator for CidMint {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut cid = [0; CID_LEN];
        let (nonce, tag) = cid.split_at_mut(NONCE_LEN);
        fill_random(nonce);
        tag.copy_from_slice(&self.tag(nonce));
        ConnectionId::new(&cid)
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Connection ids must not be guessed (RFC 9000 §5.1), but are no secrets: weak randomness is better than none.
pub(super) fn fill_random(bytes: &mut [u8]) {
    if getrandom::fill(bytes).is_err() {
        fastrand::Rng::new().fill(bytes);
    }
}

/// What the first bytes of a datagram say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Looks like a packet for us.
    Good,
    /// No packet of a connection of ours, but perhaps a stateless reset, which looks like one of somebody else's; or
    /// a version nobody here speaks. quinn decides.
    Unknown,
    /// No QUIC at all.
    Garbage,
}

/// Judges a datagram by RFC 9000 §17. The fixed bit is never greased here.
fn judge(datagram: &[u8], mint: CidMint) -> Verdict {
    const LONG_HEADER: u8 = 0x80;
    const FIXED_BIT: u8 = 0x40;
    match datagram {
        [first, v @ .., _] if first & LONG_HEADER != 0 && v.len() >= 4 => {
            let version = u32::from_be_bytes([v[0], v[1], v[2], v[3]]);
            if version == super::reach::VERSION_OF_NOBODY {
                // Somebody asks whether UDP gets here. What quinn answers is shorter than the question.
                Verdict::Good
            } else if !KNOWN_VERSIONS.contains(&version) {
                Verdict::Unknown
            } else if version != 0 && first & FIXED_BIT == 0 {
                Verdict::Garbage
            } else {
                Verdict::Good
            }
        }
        [first, rest @ ..] if first & (LONG_HEADER | FIXED_BIT) == FIXED_BIT && rest.len() >= CID_LEN => {
            if mint.is_ours(&rest[..CID_LEN]) {
                Verdict::Good
            } else {
                Verdict::Unknown
            }
        }
        _ => Verdict::Garbage,
    }
}

/// A UDP socket that counts what is not for us, and keeps garbage from quinn.
pub(super) struct FilteredSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    mint: CidMint,
    meter: Arc<Meter>,
    impairments: Arc<Impairments>,
    relaying: Relaying,
}

impl FilteredSocket {
    pub(super) fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        mint: CidMint,
        meter: Arc<Meter>,
        impairments: Arc<Impairments>,
        relaying: Relaying,
    ) -> Self {
        Self { inner, mint, meter, impairments, relaying }
    }

    /// One entry may hold several datagrams of one sender, which the kernel joined. The entry is emptied only if all
    /// of them are garbage; otherwise quinn drops the bad ones by itself.
    fn sift(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        if self.impairments.loses(meta.addr) {
            meta.len = 0;
            return;
        }
        if relay::is_relayed(meta.addr) {
            // No packet comes from such an address but by our own doing.
            self.meter.garbage(meta.addr);
            meta.len = 0;
            return;
        }
        let mut any = false;
        for datagram in buffer[..meta.len].chunks_mut(meta.stride.max(1)) {
            if datagram.first() == Some(&relay::MARKER) {
                // Where it stands between others, quinn drops it, as it lacks the fixed bit.
                self.receive_relayed(datagram, meta);
                continue;
            }
            let verdict = judge(datagram, self.mint);
            any |= verdict != Verdict::Garbage;
            if verdict != Verdict::Good {
                self.meter.garbage(meta.addr);
            }
        }
        if !any {
            meta.len = 0;
        }
    }

    /// Passes a relayed packet on, as it is but for its header, or keeps its inner part for quinn. Marks of congestion
    /// on the way to the relay stay for the receiver.
    fn receive_relayed(&self, datagram: &mut [u8], meta: &RecvMeta) {
        match self.relaying.incoming(meta.addr, datagram) {
            Err(Dropped { reason: RelayDrop::Malformed | RelayDrop::UnknownSender, .. }) => {
                self.meter.garbage(meta.addr);
            }
            Err(Dropped { reason: RelayDrop::OverBudget, so_far }) if so_far.is_power_of_two() => {
                // The same words each time, so that an event counts the reports instead of repeating them.
                let detail = "more packets than are relayed for one member (told at every doubling)";
                self.meter.refuse(meta.addr, RefusalReason::Flood, detail);
            }
            Err(_) => {}
            Ok(Incoming::Deliver(from)) => {
                let inner = &datagram[HEADER_LEN..];
                if judge(inner, self.mint) == Verdict::Garbage {
                    self.meter.garbage(meta.addr);
                } else if !self.impairments.loses(from) {
                    self.relaying.deliver(from, meta.ecn, inner);
                }
            }
            Ok(Incoming::Forward(hop)) => {
                datagram[..HEADER_LEN].copy_from_slice(&hop.header);
                let passed_on = Transmit {
                    destination: hop.to,
                    ecn: meta.ecn,
                    contents: datagram,
                    segment_size: None,
                    src_ip: hop.source,
                };
                if self.send(&passed_on).is_ok() {
                    self.relaying.note_forwarded(passed_on.contents.len());
                } else {
                    // A full socket loses it, as a router does.
                    self.relaying.drop(RelayDrop::SendFailed);
                }
            }
        }
    }

    /// Gives packets for a relayed peer to its relay, each by itself: they become longer than what they were cut for.
    fn send_relayed(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.impairments.loses_outbound(transmit.destination) {
            return Ok(());
        }
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for (at, inner) in transmit.contents.chunks(size).enumerate() {
            let Some(hop) = self.relaying.outgoing(transmit.destination, inner.len()) else { continue };
            let packet = [&hop.header[..], inner].concat();
            let outer = Transmit {
                destination: hop.to,
                ecn: transmit.ecn,
                contents: &packet,
                segment_size: None,
                src_ip: hop.source,
            };
            match self.send(&outer) {
                Ok(()) => self.relaying.note_sent(),
                // Nothing has been sent yet: all of it is tried again.
                Err(error) if at == 0 && error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => {
                    self.relaying.drop(RelayDrop::SendFailed);
                }
            }
        }
        Ok(())
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.impairments.takes(&self.inner, transmit) { Ok(()) } else { self.inner.try_send(transmit) }
    }
}

impl fmt::Debug for FilteredSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilteredSocket({:?})", self.inner)
    }
}

impl AsyncUdpSocket for FilteredSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if relay::is_relayed(transmit.destination) {
            self.send_relayed(transmit)
        } else {
            self.send(transmit)
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let direct = self.inner.poll_recv(cx, bufs, meta);
        let direct_is_pending = direct.is_pending();
        let mut count = match direct {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => 0,
        };
        for (buffer, meta) in bufs.iter_mut().zip(meta.iter_mut()).take(count) {
            self.sift(buffer, meta);
        }
        count += self.relaying.take(&mut bufs[count..], &mut meta[count..]);
        // Whoever was answered asks again; so nothing is left behind.
        if count == 0 && direct_is_pending { Poll::Pending } else { Poll::Ready(Ok(count)) }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        // One packet at a time, so that each can be lost by itself.
        if self.impairments.enabled() { 1 } else { self.inner.max_transmit_segments() }
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_id_from_the_mint_is_recognised_by_it_and_by_no_other() {
        let (mut ours, theirs) = (CidMint { key: 1 }, CidMint { key: 2 });
        for _ in 0..100 {
            let cid = ours.generate_cid();
            assert!(ours.is_ours(&cid));
            assert!(!theirs.is_ours(&cid));
        }
        assert!(!ours.is_ours(&[]));
    }

    #[test]
    fn datagrams_are_told_apart_by_their_first_bytes() {
        let mut mint = CidMint { key: 1 };
        let short = [&[0x40][..], &mint.generate_cid(), &[7; 20]].concat();
        let initial = [&[0xc0, 0, 0, 0, 1][..], &[7; 40]].concat();
        assert_eq!(judge(&short, mint), Verdict::Good);
        assert_eq!(judge(&initial, mint), Verdict::Good);

        let of_another_life = [&[0x40][..], &[9; 30]].concat();
        let of_another_version = [&[0xc0, 0xba, 0xba, 0, 1][..], &[7; 40]].concat();
        assert_eq!(judge(&of_another_life, mint), Verdict::Unknown);
        assert_eq!(judge(&of_another_version, mint), Verdict::Unknown);

        let without_fixed_bit = [&[0x00][..], &short[1..]].concat();
        for garbage in [&[][..], &[0x40], &[0xff; 5], b"\x16\x03\x01 not QUIC", &without_fixed_bit] {
            assert_eq!(judge(garbage, mint), Verdict::Garbage, "{garbage:?}");
        }
    }
}
