//! Bytes and messages that machines send. What a message of a kind takes is measured now and then, not each time.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};

use codeco_protocol::gossip::{GossipMessage, Probe};
use codeco_protocol::messages::ControlMessage;
use codeco_protocol::wire;

/// Bytes of a QUIC packet around its payload, with the headers below it.
const PACKET: u64 = 58;
/// Of a handshake with certificates, in each direction.
const HANDSHAKE: u64 = 3_000;
/// A message of a kind is measured again after so many.
const MEASURED_EVERY: u32 = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    control: Vec<(Discriminant<ControlMessage>, u64, u32)>,
    kinds: BTreeMap<&'static str, (u64, u64)>,
}

impl Sizes {
    fn count(&mut self, sent: &mut (u64, u64), kind: &'static str, bytes: u64) {
        sent.0 += bytes;
        sent.1 += 1;
        let known = self.kinds.entry(kind).or_default();
        known.0 += bytes;
        known.1 += 1;
    }

    pub(crate) fn probe(&mut self, sent: &mut (u64, u64), probe: Probe) {
        // The acknowledgement of an answer; that of a question rides on the answer.
        let acknowledged = if matches!(probe, Probe::Pong { .. }) { PACKET } else { 0 };
        self.count(sent, "probes", PACKET + 16 + acknowledged);
    }

    pub(crate) fn handshake(&mut self, sent: &mut (u64, u64)) {
        self.count(sent, "handshakes", HANDSHAKE);
    }

    pub(crate) fn gossip(&mut self, sent: &mut (u64, u64), message: &GossipMessage) {
        let payload = match message {
            GossipMessage::Rumors(list) => 60 * list.len() as u64,
            GossipMessage::Have(list) | GossipMessage::Offer(list) => 28 * list.len() as u64,
            GossipMessage::Hints(list) => 60 * list.len() as u64,
            other => wire::encode(other).map_or(0, |bytes| bytes.len() as u64),
        };
        let packets = 1 + payload / 1_200;
        self.count(sent, "gossip", payload + packets * 2 * PACKET);
    }

    pub(crate) fn control(&mut self, sent: &mut (u64, u64), message: &ControlMessage) {
        let kind = discriminant(message);
        let place = self.control.iter().position(|(known, ..)| *known == kind);
        let place = place.unwrap_or_else(|| {
            self.control.push((kind, 0, 0));
            self.control.len() - 1
        });
        let (_, size, age) = &mut self.control[place];
        if age.is_multiple_of(MEASURED_EVERY) {
            let batch = codeco_protocol::messages::ControlBatch { messages: vec![message.clone()] };
            *size = wire::encode(&batch).map_or(0, |bytes| bytes.len() as u64);
        }
        *age = age.wrapping_add(1);
        let size = *size;
        self.count(sent, "control", size + 2 * PACKET);
    }

    /// Bytes and messages of each kind.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        self.kinds.iter().map(|(kind, (bytes, messages))| (*kind, *bytes, *messages))
    }
}
