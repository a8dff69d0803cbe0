//! See [`crate::hostile`].

use std::net::SocketAddr;

use super::frame::{Frame, header};
use super::table::{Incoming, Neighbour, Table};
use crate::ids::MemberId;
use crate::units::BootTime;

/// This member; the members 2 to 4 are connected to it, and 2 is a relay of it.
const OWN: MemberId = MemberId(1);

fn address(member: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, member], 7_400))
}

/// A member that relays, and is itself reached through a relay, gets these datagrams; the first number is the member that
/// sends each. Returns how many of them were passed on or delivered.
///
/// # Panics
/// A frame that does not read as it is written, or a header of another length than the one it takes the place of.
#[must_use]
pub fn relayed(datagrams: &[(u8, &[u8])]) -> usize {
    let mut table = Table::new(OWN, 7);
    table.set_serves(true);
    for member in 2..=4 {
        let neighbour = Neighbour {
            connection: usize::from(member),
            address: address(member),
            source: None,
            shows: [9; 8],
            expects: [member; 8],
            relays: member == 2,
        };
        table.admit(BootTime(0), MemberId(u128::from(member)), neighbour);
    }
    let mut taken = 0;
    for (at, (from, datagram)) in (0_u64..).zip(datagrams) {
        if let Some(frame) = Frame::read(datagram) {
            let again = [&header(frame.kind, frame.tag, frame.member)[..], frame.inner].concat();
            assert_eq!(again, *datagram, "a frame is written as it was read");
        }
        match table.incoming(BootTime(at * 1_000), address(*from), datagram) {
            Ok(Incoming::Forward(hop)) => {
                let onward = [&hop.header[..], &datagram[hop.header.len()..]].concat();
                assert!(Frame::read(&onward).is_some(), "what is passed on is a frame");
                taken += 1;
            }
            Ok(Incoming::Deliver(address)) => {
                assert!(super::is_relayed(address), "a relayed peer has a virtual address");
                taken += 1;
            }
            Err(_) => {}
        }
    }
    taken
}

/// A datagram as member `from` sends it: to be passed on to `member`, or as a relay that passes it on.
#[must_use]
pub fn relayed_sample(from: u8, to_relay: bool, member: u128, inner: &[u8]) -> Vec<u8> {
    let kind = if to_relay { super::frame::Kind::To } else { super::frame::Kind::From };
    [&header(kind, [from; 8], MemberId(member))[..], inner].concat()
}
