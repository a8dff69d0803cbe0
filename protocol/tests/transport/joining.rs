//! Becoming a member.

use std::time::Duration;

use codeco_protocol::identity::{ALPN_JOIN, Expected, JoinRefusalCode, JoinToken, MemberKey};
use codeco_protocol::ids::Role;
use codeco_protocol::transport::{
    ConnectError, JoinConfig, JoinError, RefusalReason, StreamKind, join_fleet,
};

use crate::refusals::stranger;
use crate::stage::{Fleet, Member, loopback, must_still_serve, node_of, soon};

const HOUR: Duration = Duration::from_secs(3600);

fn join_config(fleet: &Fleet, issuer: &Member, token: JoinToken) -> JoinConfig {
    JoinConfig {
        bind: loopback(),
        issuer: issuer.addr,
        token,
        clock: fleet.clock.trust_clock(),
        deadline: Duration::from_secs(10),
    }
}

#[tokio::test]
async fn agent_with_a_token_becomes_a_member_and_connects() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().unwrap();
    let (hub, registrar) = fleet.hub_with_registrar(folder.path());
    let token = registrar.create_token(node_of("north"), HOUR).unwrap();
    // Over the operator's clipboard.
    let token: JoinToken = token.to_text().parse().unwrap();

    let key = MemberKey::generate().unwrap();
    let joined = join_fleet(&join_config(&fleet, &hub, token), &key).await;
    let credentials = soon("the join", async { joined }).await.unwrap();
    assert_eq!(credentials.identity().role, node_of("north"));
    assert_eq!(credentials.trust_domain(), fleet.ca.trust_domain());

    let node = fleet.member_with(&credentials, |_| {});
    let (near, far) = soon("a connection", async {
        tokio::join!(node.transport.connect(hub.addr, Expected::Hub), hub.transport.accept())
    })
    .await;
    assert!(near.unwrap().identity().is_hub());
    assert_eq!(*far.unwrap().identity(), node.transport.identity());
    let stats = hub.transport.stats();
    assert_eq!((stats.joined, stats.accepted), (1, 1));
    assert!(stats.refusals().all(|(_, count)| count == 0));
}

#[tokio::test]
async fn token_for_a_node_makes_a_node_and_one_for_a_hub_makes_a_hub() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().unwrap();
    let (hub, registrar) = fleet.hub_with_registrar(folder.path());
    for scope in [Role::Hub, node_of("north")] {
        let token = registrar.create_token(scope.clone(), HOUR).unwrap();
        let key = MemberKey::generate().unwrap();
        let credentials = join_fleet(&join_config(&fleet, &hub, token), &key).await.unwrap();
        assert_eq!(credentials.identity().role, scope);
    }
}

async fn must_be_refused(fleet: &Fleet, hub: &mut Member, token: JoinToken, code: JoinRefusalCode) {
    let key = MemberKey::generate().unwrap();
    let id = token.id;
    let error = join_fleet(&join_config(fleet, hub, token), &key).await.unwrap_err();
    let JoinError::Refused { refusal, .. } = error else { panic!("{error}") };
    assert_eq!(refusal.code, code);
    let report = hub.must_have_refused(code.into()).await;
    assert!(report.detail.contains(&id.to_string()), "{report}");
    must_still_serve(fleet, hub).await;
}

#[tokio::test]
async fn token_used_before_is_refused() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().unwrap();
    let (mut hub, registrar) = fleet.hub_with_registrar(folder.path());
    let token = registrar.create_token(node_of("north"), HOUR).unwrap();
    let key = MemberKey::generate().unwrap();
    join_fleet(&join_config(&fleet, &hub, token.clone()), &key).await.unwrap();
    must_be_refused(&fleet, &mut hub, token, JoinRefusalCode::UsedToken).await;
}

#[tokio::test]
async fn token_expired_is_refused() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().unwrap();
    let (mut hub, registrar) = fleet.hub_with_registrar(folder.path());
    let token = registrar.create_token(node_of("north"), HOUR).unwrap();
    fleet.clock.advance(2 * HOUR);
    must_be_refused(&fleet, &mut hub, token, JoinRefusalCode::ExpiredToken).await;
}

#[tokio::test]
async fn token_with_a_wrong_secret_is_refused_and_the_right_one_still_works() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().unwrap();
    let (mut hub, registrar) = fleet.hub_with_registrar(folder.path());
    let token = registrar.create_token(node_of("north"), HOUR).unwrap();
    let other = registrar.create_token(node_of("north"), HOUR).unwrap();
    let mixed = JoinToken { secret: other.secret, ..token.clone() };
    must_be_refused(&fleet, &mut hub, mixed, JoinRefusalCode::WrongSecret).await;
    let key = MemberKey::generate().unwrap();
    join_fleet(&join_config(&fleet, &hub, token), &key).await.unwrap();
}

#[tokio::test]
async fn token_nobody_gave_out_is_refused() {
    let (fleet, folder) = (Fleet::new(), tempfile::tempdir().unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    let (mut hub, _) = fleet.hub_with_registrar(folder.path());
    let (_, other) = fleet.hub_with_registrar(elsewhere.path());
    let token = other.create_token(node_of("north"), HOUR).unwrap();
    must_be_refused(&fleet, &mut hub, token, JoinRefusalCode::UnknownToken).await;
}

#[tokio::test]
async fn process_that_admits_nobody_says_so() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().unwrap();
    let (_hub, registrar) = fleet.hub_with_registrar(folder.path());
    let token = registrar.create_token(node_of("north"), HOUR).unwrap();
    let mut other_hub = fleet.member(Role::Hub);
    let key = MemberKey::generate().unwrap();
    let error = join_fleet(&join_config(&fleet, &other_hub, token), &key).await.unwrap_err();
    assert!(error.to_string().contains("ask a hub"), "{error}");
    other_hub.must_have_refused(RefusalReason::JoinUnavailable).await;
    must_still_serve(&fleet, &other_hub).await;
}

#[tokio::test]
async fn secret_is_sent_neither_to_a_foreign_hub_nor_to_an_agent_that_claims_to_be_one() {
    let (fleet, foreign) = (Fleet::new(), Fleet::new());
    let folder = tempfile::tempdir().unwrap();
    let (hub, registrar) = fleet.hub_with_registrar(folder.path());
    let token = registrar.create_token(node_of("north"), HOUR).unwrap();
    let key = MemberKey::generate().unwrap();
    for (trap, reason) in [
        (foreign.member(Role::Hub), RefusalReason::ForeignCa),
        (fleet.member(node_of("north")), RefusalReason::WrongIdentity),
    ] {
        let error = join_fleet(&join_config(&fleet, &trap, token.clone()), &key).await.unwrap_err();
        let JoinError::Connect(ConnectError::NotTrusted { reason: found, .. }) = error else {
            panic!("{error}")
        };
        assert_eq!(found, reason);
    }
    join_fleet(&join_config(&fleet, &hub, token), &key).await.expect("the token was not spent");
}

#[tokio::test]
async fn strangers_in_numbers_use_up_their_own_budget_and_keep_no_member_out() {
    let fleet = Fleet::new();
    let mut hub = fleet.member_with(&fleet.credentials(Role::Hub), |config| config.limits.joins_max = 1);
    let (endpoint, config) = stranger(&fleet, ALPN_JOIN);
    let dial = || async { endpoint.connect_with(config.clone(), hub.addr, "codeco").unwrap().await };
    // Two strangers connect and say nothing: one is waited for, the other is one too many.
    let first = soon("the first", dial()).await.unwrap();
    let second = soon("the second", dial()).await.unwrap();
    let one_too_many = soon("one to be refused", async {
        tokio::select! { end = first.closed() => end, end = second.closed() => end }
    })
    .await;
    assert!(one_too_many.to_string().contains("too many want to join"), "{one_too_many}");
    hub.must_have_refused(RefusalReason::TooManyHandshakes).await;
    must_still_serve(&fleet, &hub).await;
}

#[tokio::test]
async fn request_to_join_that_is_oversized_or_garbled_is_refused_before_it_is_read() {
    let fleet = Fleet::new();
    let join = StreamKind::Join.byte();
    let oversized = [&[join, 3, 0, 0, 0][..], &(1_u32 << 30).to_le_bytes()].concat();
    let garbled = [&[join, 3, 0, 0, 0][..], &3_u32.to_le_bytes(), &[0xff; 3]].concat();
    let other_stream = vec![StreamKind::Gossip.byte()];
    for (bytes, reason) in [
        (oversized, RefusalReason::Oversized),
        (garbled, RefusalReason::Malformed),
        (other_stream, RefusalReason::UnknownStreamKind),
    ] {
        let mut hub = fleet.member(Role::Hub);
        let (endpoint, config) = stranger(&fleet, ALPN_JOIN);
        let connection = endpoint.connect_with(config, hub.addr, "codeco").unwrap().await.unwrap();
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        soon("the end", connection.closed()).await;
        hub.must_have_refused(reason).await;
        must_still_serve(&fleet, &hub).await;
    }
}
