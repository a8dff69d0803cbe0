//! Members that cannot dial each other, and a relay between them.

use std::net::SocketAddr;
use std::time::Duration;

use codeco_protocol::identity::Expected;
use codeco_protocol::ids::{MemberId, Role};
use codeco_protocol::transport::{
    CloseReason, ConnectError, Impairment, Limits, PeerConnection, Peers, RelayDrop, StreamKind, Transport,
    is_relayed,
};
use tokio::io::AsyncWriteExt;

use crate::stage::{Fleet, Member, loopback, node_of, soon};

const LONG: Duration = Duration::from_secs(600);

/// A hub, and two members connected to it, whose packets to each other are lost.
struct Apart {
    fleet: Fleet,
    hub: Member,
    ends: [Member; 2],
    /// To the hub, from each end; and the hub's ends of both.
    kept: Vec<PeerConnection>,
}

async fn connect(from: &Member, to: &Member) -> (PeerConnection, PeerConnection) {
    let dialled = soon("a connection", from.transport.connect(to.addr, Expected::Any)).await.unwrap();
    let accepted = soon("the other end", to.transport.accept()).await.unwrap();
    (dialled, accepted)
}

async fn apart() -> Apart {
    ends_of_a_hub(true, loopback()).await
}

/// With or without that loss; without it packets are sent and received in batches.
async fn ends_of_a_hub(cut: bool, listen: SocketAddr) -> Apart {
    let fleet = Fleet::new();
    let limits = Limits {
        idle_timeout: Duration::from_secs(7),
        keep_alive: Duration::from_secs(1),
        ..Limits::default()
    };
    let member = |role: Role| {
        fleet.member_with(&fleet.credentials(role), |config| {
            config.listen = listen;
            config.faults = cut;
            config.limits = limits.clone();
        })
    };
    let hub = member(Role::Hub);
    let ends = [member(node_of("west")), member(node_of("east"))];
    hub.transport.relaying().serve(true);
    let mut kept = Vec::new();
    for (at, end) in ends.iter().enumerate() {
        let other = ends[1 - at].addr;
        if cut {
            end.transport.impair(Peers::Only(vec![other]), Impairment::CUT, LONG).unwrap();
        }
        let (dialled, accepted) = connect(end, &hub).await;
        end.transport.relaying().admit(&dialled, true);
        hub.transport.relaying().admit(&accepted, false);
        kept.extend([dialled, accepted]);
    }
    Apart { fleet, hub, ends, kept }
}

fn id(member: &Member) -> MemberId {
    member.transport.identity().id
}

async fn dial_relayed(from: &Transport, to: &Member, relay: &Member) -> Result<PeerConnection, ConnectError> {
    let address = from.relaying().open(id(to), id(relay)).unwrap();
    soon("a relayed connection", from.connect(address, Expected::Id(to.transport.identity()))).await
}

/// Sends `len` bytes over a stream and has them come back.
async fn echo(near: &PeerConnection, far: &PeerConnection, len: usize) {
    let sent: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let there = async {
        let (mut send, mut recv) = near.open_bi(StreamKind::Introspection).await.unwrap();
        let writing = async {
            send.write_all(&sent).await.unwrap();
            send.finish().unwrap();
        };
        let (back, ()) = tokio::join!(recv.read_to_end(len + 1), writing);
        back.unwrap()
    };
    let here = async {
        let (_, mut send, mut recv) = far.accept_bi().await.unwrap();
        tokio::io::copy(&mut recv, &mut send).await.unwrap();
        send.shutdown().await.unwrap();
    };
    let (back, ()) = soon("an echo", async { tokio::join!(there, here) }).await;
    assert!(back == sent, "{} of {len} bytes came back, or others", back.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_lose_each_others_packets_are_connected_end_to_end_through_a_relay() {
    let Apart { hub, ends: [a, b], kept, .. } = apart().await;
    let dialled = dial_relayed(&a.transport, &b, &hub).await.unwrap();
    let accepted = soon("the other end", b.transport.accept()).await.unwrap();

    assert_eq!(*dialled.identity(), b.transport.identity(), "the certificates are the peers' own");
    assert_eq!(*accepted.identity(), a.transport.identity());
    assert_eq!(dialled.binding(), accepted.binding(), "the secrets of one handshake, with nobody between");
    assert!(dialled.is_relayed() && accepted.is_relayed() && !kept[0].is_relayed());
    assert_eq!(a.transport.relaying().via(dialled.remote_addr()), Some(id(&hub)));
    assert_eq!(b.transport.relaying().via(accepted.remote_addr()), Some(id(&hub)));

    echo(&dialled, &accepted, 1 << 20).await;
    echo(&accepted, &dialled, 10_000).await;
    accepted.send_datagram(bytes::Bytes::from_static(b"ping")).unwrap();
    assert_eq!(soon("a datagram", dialled.read_datagram()).await.unwrap().as_ref(), b"ping");

    let stats = hub.transport.relaying().stats();
    assert!(stats.forwarded_bytes > 2 << 20 && stats.forwarded > 1_000, "{stats:?}");
    let own = a.transport.relaying().stats();
    assert!(own.sent > 500 && own.delivered > 500 && own.forwarded == 0, "{own:?}");
    assert_eq!(hub.transport.stats().accepted, 2, "the hub has no part in that connection");
    assert!(dialled.path().mtu >= 1_200 && dialled.path().mtu <= 1_472);

    dialled.close(CloseReason::Shutdown);
    let end = soon("the end", accepted.closed()).await;
    assert!(end.to_string().contains("shutdown"), "{end}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_the_socket_are_taken_apart_for_relayed_peers_and_for_others_beside_them() {
    let Apart { hub, ends: [a, b], kept, .. } = ends_of_a_hub(false, loopback()).await;
    let dialled = dial_relayed(&a.transport, &b, &hub).await.unwrap();
    let accepted = soon("the other end", b.transport.accept()).await.unwrap();
    let direct = connect(&a, &b).await;
    // All at once: the relayed one, the ones to the relay that it shares its addresses with, and a direct one.
    tokio::join!(
        echo(&dialled, &accepted, 400_000),
        echo(&kept[0], &kept[1], 400_000),
        echo(&kept[3], &kept[2], 400_000),
        echo(&direct.0, &direct.1, 400_000),
    );
    let stats = b.transport.relaying().stats();
    assert_eq!(stats.dropped(RelayDrop::Malformed) + stats.dropped(RelayDrop::QueueFull), 0, "{stats:?}");
    assert!(dialled.is_relayed() && !direct.0.is_relayed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_speak_ipv6_relay_like_those_that_do_not() {
    let listen: SocketAddr = "[::1]:0".parse().unwrap();
    if let Err(missing) = std::net::UdpSocket::bind(listen) {
        assert!(std::env::var_os("CODECO_NO_SKIP").is_none(), "IPv6 is needed: {missing}");
        eprintln!("skipped: IPv6 is needed: {missing}");
        return;
    }
    let Apart { hub, ends: [a, b], kept: _kept, .. } = ends_of_a_hub(true, listen).await;
    let dialled = dial_relayed(&a.transport, &b, &hub).await.unwrap();
    let accepted = soon("the other end", b.transport.accept()).await.unwrap();
    echo(&dialled, &accepted, 100_000).await;
    assert!(dialled.is_relayed() && accepted.is_relayed() && dialled.remote_addr().is_ipv6());
    assert_eq!(b.transport.relaying().via(accepted.remote_addr()), Some(id(&hub)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_relays_is_not_taken_for_the_one_that_was_dialled() {
    let Apart { fleet, hub, ends: [a, b], kept: _kept } = apart().await;
    // The one that is dialled turns out to be somebody else of the same fleet, at the other end of the same relay.
    let stranger = fleet.credentials(node_of("east")).identity().clone();
    let address = a.transport.relaying().open(id(&b), id(&hub)).unwrap();
    let refused = soon("a refusal", a.transport.connect(address, Expected::Id(stranger))).await.unwrap_err();
    assert!(matches!(refused, ConnectError::NotTrusted { .. }), "{refused}");
    // A direct dial is lost.
    let lost = soon("a time-out", a.transport.connect(b.addr, Expected::Any)).await.unwrap_err();
    assert!(matches!(lost, ConnectError::Timeout { .. }), "{lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_that_goes_takes_the_relayed_connection_with_it_and_one_more_relay_keeps_it() {
    let Apart { fleet, hub, ends: [a, b], kept } = apart().await;
    let second = fleet.member(Role::Hub);
    second.transport.relaying().serve(true);
    let mut more = Vec::new();
    for end in [&a, &b] {
        let (dialled, accepted) = connect(end, &second).await;
        end.transport.relaying().admit(&dialled, true);
        second.transport.relaying().admit(&accepted, false);
        more.extend([dialled, accepted]);
    }
    let dialled = dial_relayed(&a.transport, &b, &hub).await.unwrap();
    let accepted = soon("the other end", b.transport.accept()).await.unwrap();
    echo(&dialled, &accepted, 10_000).await;
    let before = second.transport.relaying().stats().forwarded;

    for (end, connection) in [(&a, &kept[0]), (&b, &kept[2])] {
        end.transport.relaying().withdraw(id(&hub), connection.stable_id());
    }
    echo(&dialled, &accepted, 100_000).await;
    assert!(second.transport.relaying().stats().forwarded > before + 100);
    assert_eq!(a.transport.relaying().via(dialled.remote_addr()), Some(id(&second)));

    for (end, connection) in [(&a, &more[0]), (&b, &more[2])] {
        end.transport.relaying().withdraw(id(&second), connection.stable_id());
    }
    let end = soon("the idle time-out", dialled.closed()).await;
    assert_eq!(end, codeco_protocol::transport::ConnectionEnd::TimedOut);
    assert!(a.transport.relaying().stats().dropped(RelayDrop::NoRelay) > 0);
}

#[tokio::test]
async fn packets_that_nobody_may_have_relayed_are_counted_and_go_nowhere() {
    let Apart { hub, ends: [a, b], kept: _kept, .. } = apart().await;
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut packet = vec![7, 0x11, 0, 0, 0, 0, 0, 0, 0, 0];
    packet.extend(id(&b).0.to_be_bytes());
    packet.extend([0x40; 60]);
    stranger.send_to(&packet, hub.addr).await.unwrap();
    stranger.send_to(&packet[..20], hub.addr).await.unwrap();
    soon("both counts", async {
        loop {
            let stats = hub.transport.relaying().stats();
            if stats.dropped(RelayDrop::UnknownSender) == 1 && stats.dropped(RelayDrop::Malformed) == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(hub.transport.relaying().stats().forwarded, 0);
    assert_eq!(b.transport.relaying().stats().delivered, 0);
    // Where the relay is told not to relay, a dial ends like one to nobody.
    hub.transport.relaying().serve(false);
    let refused = dial_relayed(&a.transport, &b, &hub).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Timeout { addr, .. } if is_relayed(addr)), "{refused}");
    assert!(hub.transport.relaying().stats().dropped(RelayDrop::NotServing) > 0);
}
