//! Members among themselves.

use std::time::Duration;

use bytes::Bytes;
use codeco_protocol::identity::Expected;
use codeco_protocol::ids::Role;
use codeco_protocol::transport::{
    CloseReason, ConnectError, ConnectionEnd, DatagramError, RefusalReason, StreamKind, Transport,
    TransportConfig,
};

use crate::stage::{Fleet, PATIENCE, cluster, connected, hasty, must_echo, must_still_serve, node_of, soon};

#[tokio::test]
async fn members_connected_know_each_other_and_exchange_streams_and_datagrams() {
    let fleet = Fleet::new();
    let (hub, node) = (fleet.member(Role::Hub), fleet.member(node_of("north")));
    let (dialled, accepted) = connected(&node, &hub).await;
    assert_eq!(*dialled.identity(), hub.transport.identity());
    assert_eq!(*accepted.identity(), node.transport.identity());
    assert_eq!(accepted.remote_addr(), node.addr, "dials from the port it listens on");
    assert!(dialled.is_dialled() && !accepted.is_dialled());

    must_echo(&dialled, &accepted).await;
    must_echo(&accepted, &dialled).await;
    dialled.send_datagram(Bytes::from_static(b"probe")).unwrap();
    assert_eq!(soon("a datagram", accepted.read_datagram()).await.unwrap(), "probe");
    let long = Bytes::from(vec![0; 5_000]);
    assert!(matches!(dialled.send_datagram(long), Err(DatagramError::TooLong { len: 5_000, .. })));
    assert_eq!((hub.transport.stats().accepted, node.transport.stats().dialled), (1, 1));
}

#[tokio::test]
async fn both_ends_of_a_connection_derive_the_same_binding_and_no_other_connection_does() {
    let fleet = Fleet::new();
    let (hub, node) = (fleet.member(Role::Hub), fleet.member(node_of("north")));
    let (near, far) = connected(&node, &hub).await;
    let (near_again, far_again) = connected(&node, &hub).await;
    assert_eq!(near.binding(), far.binding());
    assert_eq!(near_again.binding(), far_again.binding());
    assert_ne!(near.binding(), near_again.binding());
    assert_ne!(near.binding(), [0; 16]);
    let (mut a, mut b) = ([0; 32], [0; 32]);
    near.export_keying_material(&mut a, b"label", b"x").unwrap();
    far.export_keying_material(&mut b, b"label", b"x").unwrap();
    assert_eq!(a, b);
}

#[tokio::test]
async fn member_of_the_wrong_role_or_name_is_refused_by_the_one_who_dials() {
    let fleet = Fleet::new();
    let (north, hub) = (fleet.member(node_of("north")), fleet.member(Role::Hub));
    let expectations =
        [Expected::Hub, Expected::NodeOf(cluster("south")), Expected::Id(hub.transport.identity())];
    for expected in expectations {
        // A fresh dialler each time, so that its counters tell of this refusal only.
        let mut dialler = fleet.member(node_of("north"));
        let error = dialler.transport.connect(north.addr, expected.clone()).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::NotTrusted { reason: RefusalReason::WrongIdentity, .. }),
            "{expected}: {error}"
        );
        let refusal = dialler.must_have_refused(RefusalReason::WrongIdentity).await;
        assert!(refusal.detail.contains(&expected.to_string()), "{refusal}");
    }
    must_still_serve(&fleet, &north).await;
}

#[tokio::test]
async fn member_of_a_role_not_admitted_is_refused_by_the_one_who_accepts() {
    let fleet = Fleet::new();
    let mut picky = fleet.member_with(&fleet.credentials(node_of("north")), |config| {
        config.admits = Expected::OneOf(vec![Expected::Hub, Expected::NodeOf(cluster("good"))]);
    });
    let stranger = fleet.member(node_of("south"));
    let error = stranger.transport.connect(picky.addr, Expected::Any).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { reason: RefusalReason::WrongIdentity, .. }), "{error}");
    let refusal = picky.must_have_refused(RefusalReason::WrongIdentity).await;
    assert!(refusal.detail.contains("/cluster/south/node/"), "{refusal}");
    must_still_serve(&fleet, &picky).await;
}

#[tokio::test]
async fn stream_of_unknown_kind_is_reset_while_its_connection_lives_on() {
    let fleet = Fleet::new();
    let (mut hub, node) = (fleet.member(Role::Hub), fleet.member(node_of("north")));
    let (near, far) = connected(&node, &hub).await;
    // Only members may misbehave like this; joining is none of their business.
    let (_send, mut receive) = near.open_bi(StreamKind::Join).await.unwrap();
    let refused = async {
        let error = receive.read_to_end(10).await.unwrap_err();
        assert!(error.to_string().contains("reset"), "{error}");
    };
    // One receiver serves both: it passes over the bad stream and finds the good one.
    soon("both", async { tokio::join!(refused, must_echo(&near, &far)) }).await;
    let refusal = hub.must_have_refused(RefusalReason::UnknownStreamKind).await;
    assert!(refusal.detail.contains("starts with 6"), "{refusal}");
    must_still_serve(&fleet, &hub).await;
}

#[tokio::test]
async fn peer_of_a_member_that_was_killed_learns_of_it_as_soon_as_that_is_back() {
    let fleet = Fleet::new();
    let patient = |config: &mut TransportConfig| {
        config.limits.idle_timeout = Duration::from_secs(600);
        config.limits.keep_alive = Duration::from_millis(50);
    };
    let node = fleet.member_with(&fleet.credentials(node_of("north")), patient);
    let credentials = fleet.credentials(Role::Hub);

    // The hub lives in a runtime of its own, which dies without another packet, as under SIGKILL.
    let life = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let hub = {
        let _inside = life.enter();
        fleet.member_with(&credentials, patient)
    };
    let addr = hub.addr;
    let (near, far) = connected(&node, &hub).await;
    // Not before its last task is gone: a live one would still say goodbye when the hub is dropped below.
    let killed = tokio::task::spawn_blocking(move || life.shutdown_timeout(PATIENCE));
    soon("the death", killed).await.unwrap();
    drop((hub, far));
    let reborn = soon("the port", async {
        loop {
            let config = TransportConfig { listen: addr, ..fleet.config() };
            match Transport::bind(config, &credentials) {
                Ok(transport) => break transport,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert_eq!(soon("the end", near.closed()).await, ConnectionEnd::Forgotten);
    let (again, _far) = soon("a connection", async {
        tokio::join!(node.transport.connect(addr, Expected::Hub), reborn.accept())
    })
    .await;
    assert_eq!(*again.unwrap().identity(), reborn.identity());
}

#[tokio::test]
async fn waiting_for_a_stream_can_be_given_up_at_any_point_without_losing_one() {
    let fleet = Fleet::new();
    let (hub, node) = (fleet.member(Role::Hub), fleet.member(node_of("north")));
    let (near, far) = connected(&node, &hub).await;
    for _ in 0..50 {
        let waiting = far.accept_bi();
        tokio::select! {
            biased;
            _ = waiting => panic!("nothing was opened yet"),
            () = tokio::task::yield_now() => {}
        }
    }
    must_echo(&near, &far).await;
}

#[tokio::test]
async fn closing_everything_tells_each_peer_the_reason() {
    // Whoever is paused for longer than a closed connection is remembered may ask about it first, and then the answer
    // that it is forgotten overtakes the reason. So not every try must succeed, but nothing else may happen.
    for _ in 0..5 {
        if everybody_hears_the_reason().await {
            return;
        }
    }
    panic!("in five tries the reason never reached everybody");
}

async fn everybody_hears_the_reason() -> bool {
    let fleet = Fleet::new();
    let hub = fleet.member(Role::Hub);
    let nodes = [fleet.member(node_of("north")), fleet.member(node_of("south"))];
    let mut ends = Vec::new();
    for node in &nodes {
        ends.push(connected(node, &hub).await);
    }
    assert!(soon("the close", hub.transport.close_all(CloseReason::Shutdown)).await, "all was sent");
    assert!(soon("the last accept", hub.transport.accept()).await.is_none());
    let mut heard = 0;
    for (near, _far) in &ends {
        match soon("the end", near.closed()).await {
            ConnectionEnd::ByPeer { reason: CloseReason::Shutdown, .. } => heard += 1,
            ConnectionEnd::Forgotten => {}
            other => panic!("{other}"),
        }
    }
    heard == ends.len()
}

#[tokio::test]
async fn member_beyond_the_connection_limit_is_refused_until_another_leaves() {
    let fleet = Fleet::new();
    let mut hub =
        fleet.member_with(&fleet.credentials(Role::Hub), |config| config.limits.connections_max = 1);
    let first = fleet.member(node_of("north"));
    let (near, far) = connected(&first, &hub).await;
    let second = fleet.member(node_of("south"));
    let error = second.transport.connect(hub.addr, Expected::Hub).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Refused { reason: RefusalReason::TooManyConnections, .. }),
        "{error}"
    );
    hub.must_have_refused(RefusalReason::TooManyConnections).await;
    must_echo(&near, &far).await;
    near.close(CloseReason::Unneeded);
    soon("the end", far.closed()).await;
    drop((near, far));
    soon("room", async { while second.transport.connect(hub.addr, Expected::Hub).await.is_err() {} }).await;
}

#[tokio::test]
async fn members_under_load_prove_their_address_and_get_in_all_the_same() {
    let fleet = Fleet::new();
    let hub = fleet.member_with(&fleet.credentials(Role::Hub), |config| config.limits.retry_from = 0);
    must_still_serve(&fleet, &hub).await;
    assert_eq!(hub.transport.stats().retries, 1);
}

#[tokio::test]
async fn credentials_renewed_while_connected_drop_nothing_and_serve_new_connections() {
    let fleet = Fleet::new();
    let (hub, node) = (fleet.member(Role::Hub), fleet.member(node_of("north")));
    let (near, far) = connected(&node, &hub).await;
    let renewed = fleet.credentials(Role::Hub);
    hub.transport.renew(renewed.clone());
    must_echo(&near, &far).await;
    let (near, _far) = connected(&node, &hub).await;
    assert_eq!(near.identity(), renewed.identity());
}

#[tokio::test]
async fn dialling_where_nobody_listens_ends_at_the_deadline() {
    let fleet = Fleet::new();
    let node = fleet.member_with(&fleet.credentials(node_of("north")), |config| config.limits = hasty());
    // Bound, so that no other process answers there, but nobody reads.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = node.transport.connect(silent.local_addr().unwrap(), Expected::Hub).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Timeout { deadline, .. } if deadline == Duration::from_millis(300)),
        "{error}"
    );
}
