//! Tells garbage from QUIC before quinn sees it, so that it can be counted and costs nothing more.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, UdpPoller};

use super::refusal::Meter;

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
        Self { key: u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..)) }
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
        fastrand::Rng::new().fill(nonce);
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

/// Whether a datagram cannot be from a peer of ours, whatever follows (RFC 9000 §17; bits are never greased here).
fn is_garbage(datagram: &[u8], mint: CidMint) -> bool {
    const LONG_HEADER: u8 = 0x80;
    const FIXED_BIT: u8 = 0x40;
    match datagram {
        [first, v @ .., _] if first & LONG_HEADER != 0 && v.len() >= 4 => {
            let version = u32::from_be_bytes([v[0], v[1], v[2], v[3]]);
            !KNOWN_VERSIONS.contains(&version) || (version != 0 && first & FIXED_BIT == 0)
        }
        [first, rest @ ..] if first & LONG_HEADER == 0 && rest.len() >= CID_LEN => {
            first & FIXED_BIT == 0 || !mint.is_ours(&rest[..CID_LEN])
        }
        _ => true,
    }
}

/// A UDP socket that counts garbage and keeps it from quinn.
pub(super) struct FilteredSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    mint: CidMint,
    meter: Arc<Meter>,
}

impl FilteredSocket {
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, mint: CidMint, meter: Arc<Meter>) -> Self {
        Self { inner, mint, meter }
    }

    /// One entry may hold several datagrams of one sender, which the kernel joined. The entry is emptied only if all
    /// of them are garbage; otherwise quinn drops the bad ones by itself.
    fn sift(&self, buffer: &[u8], meta: &mut RecvMeta) {
        let mut good = false;
        for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
            if is_garbage(datagram, self.mint) {
                self.meter.garbage(meta.addr);
            } else {
                good = true;
            }
        }
        if !good {
            meta.len = 0;
        }
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
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        for (buffer, meta) in bufs.iter().zip(meta.iter_mut()).take(count) {
            self.sift(buffer, meta);
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
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
        assert!(!is_garbage(&short, mint));
        assert!(!is_garbage(&initial, mint));
        let without_fixed_bit = [&[0x00][..], &short[1..]].concat();
        let of_another_life = [&[0x40][..], &[9; 30]].concat();
        let of_another_version = [&[0xc0, 0xba, 0xba, 0, 1][..], &[7; 40]].concat();
        for garbage in [
            &[][..],
            &[0x40],
            &[0xff; 5],
            b"GET / HTTP/1.1",
            &without_fixed_bit,
            &of_another_life,
            &of_another_version,
        ] {
            assert!(is_garbage(garbage, mint), "{garbage:?}");
        }
    }
}
