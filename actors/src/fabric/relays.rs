//! Relays of this member, and what it relays.
//!
//! Hubs relay for whoever is connected to them, a lead for whoever is connected to it. A member asks the relays of its
//! configuration first, then hubs, then its lead; it takes relayed packets from these and from members that say that
//! they lead their cluster. What of all that is possible at the moment follows from the connections there are.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use codeco_protocol::gossip::{Hint, NOWHERE, View};
use codeco_protocol::ids::{ClusterName, Identity, MemberId};
use codeco_protocol::transport::{ConnectError, PeerConnection, RelayError, is_relayed};

use super::commons::Commons;
use super::routes::Way;
use codeco_protocol::identity::Expected;

/// One try to reach a member.
#[derive(Debug, Clone)]
pub(super) struct Try {
    pub(super) way: Way,
    /// Its own address; the virtual one if it has none.
    pub(super) address: SocketAddr,
    /// The member and the relays to ask, for [`Way::Relayed`].
    pub(super) through: Option<(MemberId, Vec<MemberId>)>,
    pub(super) expected: Expected,
}

impl Commons {
    /// Whether the member at the other end of a connection may relay for us.
    fn is_relay(&self, peer: &Identity, lead: Option<MemberId>, configured: &BTreeSet<MemberId>) -> bool {
        // Of our own cluster the lead is known; of others only what it says.
        let abroad = peer.cluster() != self.own.cluster();
        let leads = |view: &View| view.member().is_some_and(|fact| fact.lead == Some(peer.id));
        peer.is_hub()
            || configured.contains(&peer.id)
            || lead == Some(peer.id)
            || (abroad && self.with_views(|views| views.get(peer.id).is_some_and(leads)))
    }

    /// Lets those who are connected relay for us and have packets relayed, as far as each may. To be repeated.
    pub(super) fn tend_relays(&self, lead: Option<MemberId>, configured: &BTreeSet<MemberId>) {
        let relaying = self.transport.relaying();
        relaying.serve(self.own.is_hub() || lead == Some(self.own.id));
        let (links, mut relays) = (self.links(), Vec::new());
        for linked in links.values().filter(|linked| !linked.connection.is_relayed()) {
            let peer = linked.connection.identity();
            let relay = self.is_relay(peer, lead, configured);
            relaying.admit(&linked.connection, relay);
            let rank = match (configured.contains(&peer.id), peer.is_hub()) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => 2,
            };
            // Leads of other clusters are listened to; nothing is asked of them.
            if relay && (rank < 2 || lead == Some(peer.id)) {
                relays.push((rank, peer.id));
            }
        }
        relays.sort_unstable();
        self.set_relays(relays.into_iter().map(|(_, id)| id).collect());
    }

    /// Members that relay for us, the best first, but for `member` itself.
    pub(super) fn relays_to(&self, member: MemberId) -> Vec<MemberId> {
        self.relays().into_iter().filter(|relay| *relay != member).collect()
    }

    /// Through whom a connection goes; `None`: directly.
    #[must_use]
    pub fn via(&self, connection: &PeerConnection) -> Option<MemberId> {
        connection.is_relayed().then(|| self.transport.relaying().via(connection.remote_addr())).flatten()
    }

    /// Where members of `of` can dial the member of a view: where it says, or, if it listens on all its addresses, where
    /// we see it. [`NOWHERE`] if nobody has seen it, or if it says that only its own cluster can dial it.
    pub(super) fn dialable(&self, view: &View, of: Option<&ClusterName>) -> Option<SocketAddr> {
        let told = view.member()?.address;
        if view.dials_out_only() && view.identity.cluster() != of {
            return Some(NOWHERE);
        }
        if let Some(told) = told.filter(|told| !told.ip().is_unspecified()) {
            return Some(told);
        }
        let seen = self.link(view.identity.id).map(|connection| connection.remote_addr());
        Some(seen.filter(|seen| !is_relayed(*seen)).unwrap_or(NOWHERE))
    }

    /// What others say, in our own terms: whom nobody can dial is at its virtual address.
    pub(super) fn read_hints(&self, hints: Vec<Hint>) -> Vec<Hint> {
        // An address that is virtual elsewhere means nothing here.
        let meant = hints.into_iter().filter(|hint| !is_relayed(hint.address));
        meant
            .map(|hint| {
                let address = if hint.is_somewhere() {
                    hint.address
                } else {
                    self.transport.relaying().address_of(hint.identity.id)
                };
                Hint { address, ..hint }
            })
            .collect()
    }

    /// Carries out a try.
    pub(super) async fn reach(&self, attempt: Try) -> Result<PeerConnection, ConnectError> {
        let Try { address, through, expected, .. } = attempt;
        let Some((member, relays)) = through else {
            return self.transport.connect(address, expected).await;
        };
        let relaying = self.transport.relaying();
        let failed = |error: RelayError| ConnectError::Local { addr: address, detail: error.to_string() };
        let mut last = failed(RelayError::NotConnected);
        for relay in relays {
            match relaying.open(member, relay) {
                Err(error) => last = failed(error),
                Ok(address) => match self.transport.connect(address, expected.clone()).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => last = error,
                },
            }
        }
        Err(last)
    }
}
