//! Strangers, impostors and noise.

use std::sync::Arc;
use std::time::Duration;

use codeco_protocol::identity::{
    ALPN_MEMBER, Credentials, CredentialsSlot, Expected, MemberKey, Validity, join_client_config,
};
use codeco_protocol::ids::{Identity, MemberId, Role};
use codeco_protocol::transport::{ConnectError, RefusalReason, StreamKind};
use quinn::crypto::rustls::QuicClientConfig;

use crate::stage::{Fleet, Member, connected, hasty, loopback, must_echo, must_still_serve, node_of, soon};

/// A client that shows no certificate and speaks `alpn`.
pub(crate) fn stranger(fleet: &Fleet, alpn: &[u8]) -> (quinn::Endpoint, quinn::ClientConfig) {
    (quinn::Endpoint::client(loopback()).unwrap(), quic_config(stranger_tls(fleet, alpn)))
}

fn stranger_tls(fleet: &Fleet, alpn: &[u8]) -> rustls::ClientConfig {
    let mut tls = join_client_config(fleet.ca.key_hash(), fleet.clock.trust_clock(), Expected::Any).unwrap();
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls
}

fn quic_config(tls: rustls::ClientConfig) -> quinn::ClientConfig {
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// Whether `word` is among the last words of the peer. Somebody paused for long may hear instead that the connection is
/// forgotten; what counts is what the peer itself has noted, which each test checks next.
fn says(end: &str, word: &str) -> bool {
    end.contains(word) || end == "reset by peer"
}

/// Dials and returns why it ended; the handshake itself may well succeed.
async fn end_of_stranger(to: &Member, (endpoint, config): (quinn::Endpoint, quinn::ClientConfig)) -> String {
    let connecting = endpoint.connect_with(config, to.addr, "codeco").unwrap();
    let end = soon("the end", async {
        match connecting.await {
            Ok(connection) => connection.closed().await,
            Err(e) => e,
        }
    })
    .await;
    end.to_string()
}

#[tokio::test]
async fn stranger_without_a_certificate_is_refused_as_a_member() {
    let fleet = Fleet::new();
    let mut hub = fleet.member(Role::Hub);
    let end = end_of_stranger(&hub, stranger(&fleet, ALPN_MEMBER)).await;
    assert!(says(&end, "must show a certificate"), "{end}");
    hub.must_have_refused(RefusalReason::NoCertificate).await;
    must_still_serve(&fleet, &hub).await;
}

#[tokio::test]
async fn stranger_speaking_another_protocol_is_refused() {
    let fleet = Fleet::new();
    let mut hub = fleet.member(Role::Hub);
    end_of_stranger(&hub, stranger(&fleet, b"h3")).await;
    hub.must_have_refused(RefusalReason::NoCommonProtocol).await;
    must_still_serve(&fleet, &hub).await;
}

#[tokio::test]
async fn member_of_a_foreign_authority_of_the_same_name_is_refused_by_both_sides() {
    let (fleet, foreign) = (Fleet::new(), Fleet::new());
    let mut hub = fleet.member(Role::Hub);

    // It does not trust us either.
    let mut honest_foreigner = foreign.member(node_of("north"));
    let error = honest_foreigner.transport.connect(hub.addr, Expected::Hub).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotTrusted { reason: RefusalReason::ForeignCa, .. }), "{error}");
    honest_foreigner.must_have_refused(RefusalReason::ForeignCa).await;
    let noticed = soon("the hub to notice", hub.refusals.recv()).await.unwrap();
    assert_eq!(noticed.reason, RefusalReason::EndedByPeer);

    // This one accepts anybody, but has a certificate from elsewhere.
    let mut hub = fleet.member(Role::Hub);
    let theirs = foreign.credentials(Role::Hub);
    let (endpoint, config) = impostor(&fleet, &theirs);
    let end = end_of_stranger(&hub, (endpoint, config)).await;
    assert!(end.contains("unknown CA") || end.contains("48"), "{end}");
    hub.must_have_refused(RefusalReason::ForeignCa).await;
    must_still_serve(&fleet, &hub).await;
}

/// A client that trusts this fleet but shows `credentials` of another.
fn impostor(fleet: &Fleet, credentials: &Credentials) -> (quinn::Endpoint, quinn::ClientConfig) {
    let mut tls = stranger_tls(fleet, ALPN_MEMBER);
    tls.client_auth_cert_resolver = CredentialsSlot::new(credentials.clone());
    (quinn::Endpoint::client(loopback()).unwrap(), quic_config(tls))
}

#[tokio::test]
async fn agent_that_claims_to_be_the_hub_is_refused_and_its_caller_finds_the_real_hub() {
    let fleet = Fleet::new();
    let (false_hub, hub) = (fleet.member(node_of("north")), fleet.member(Role::Hub));
    let mut node = fleet.member(node_of("north"));
    let error = node.transport.connect(false_hub.addr, Expected::Hub).await.unwrap_err();
    assert!(error.to_string().contains("a hub was expected"), "{error}");
    node.must_have_refused(RefusalReason::WrongIdentity).await;
    let real = soon("the hub", node.transport.connect(hub.addr, Expected::Hub)).await.unwrap();
    assert!(real.identity().is_hub());
}

#[tokio::test]
async fn agent_that_issues_a_hub_certificate_with_its_own_key_is_refused() {
    let fleet = Fleet::new();
    let mut hub = fleet.member(Role::Hub);

    // The agent's key signs a certificate for a hub, in the agent's own name.
    let agent_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&agent_key).unwrap();
    let agent = Identity { role: node_of("north"), id: MemberId::random() };
    let validity = Validity::starting(fleet.clock.now(), Duration::from_secs(3600));
    let agent_certificate = fleet.ca.issue(request.der(), &agent, validity).unwrap();
    let signer = rcgen::Issuer::from_ca_cert_der(&agent_certificate.der.clone().into(), agent_key).unwrap();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut wishes = rcgen::CertificateParams::default();
    let name = format!("spiffe://fleet.example/hub/{}", MemberId::random());
    wishes.subject_alt_names = vec![rcgen::SanType::URI(name.as_str().try_into().unwrap())];
    wishes.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let forged = wishes.signed_by(&key, &signer).unwrap();

    let mut tls = stranger_tls(&fleet, ALPN_MEMBER);
    let chain = vec![forged.der().clone(), agent_certificate.der.into(), fleet.ca.certificate().clone()];
    let provider = codeco_protocol::identity::provider();
    let certified = rustls::sign::CertifiedKey::from_der(chain, key.into(), &provider).unwrap();
    tls.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    end_of_stranger(&hub, (quinn::Endpoint::client(loopback()).unwrap(), quic_config(tls))).await;
    hub.must_have_refused(RefusalReason::ForeignCa).await;
    must_still_serve(&fleet, &hub).await;
}

#[tokio::test]
async fn member_whose_certificate_has_expired_is_refused_by_both_sides() {
    let fleet = Fleet::new();
    let hour = Duration::from_secs(3600);
    let mut hub = fleet.member(Role::Hub);
    let short_lived = fleet.credentials_for(node_of("north"), hour);
    let mut node = fleet.member_with(&short_lived, |_| {});
    let (near, far) = connected(&node, &hub).await;

    fleet.clock.advance(2 * hour);
    let error = node.transport.connect(hub.addr, Expected::Hub).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Refused { reason: RefusalReason::CertificateExpired, .. }),
        "{error}"
    );
    hub.must_have_refused(RefusalReason::CertificateExpired).await;

    let error = hub.transport.connect(node.addr, Expected::Any).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::NotTrusted { reason: RefusalReason::CertificateExpired, .. }),
        "{error}"
    );
    let seen_by_node = soon("the node to notice", node.refusals.recv()).await.unwrap();
    assert_eq!(seen_by_node.reason, RefusalReason::EndedByPeer);

    must_echo(&near, &far).await;
    must_still_serve(&fleet, &hub).await;
}

#[tokio::test]
async fn wall_clock_set_back_does_not_bring_an_expired_certificate_to_life() {
    let fleet = Fleet::new();
    let hour = Duration::from_secs(3600);
    // Certificates that will be valid for long were made two hours from now, as far as the hub's journal goes.
    let node = fleet.member_with(&fleet.credentials_for(node_of("north"), hour), |_| {});
    let clock = fleet.clock.trust_clock();
    clock.raise_floor(codeco_protocol::units::WallTime(fleet.clock.now().0 + 2 * 3_600_000));
    assert!(clock.is_behind());
    let mut hub = fleet.member_with(&fleet.credentials(Role::Hub), |config| config.clock = clock);
    assert!(node.transport.connect(hub.addr, Expected::Hub).await.is_err());
    hub.must_have_refused(RefusalReason::CertificateExpired).await;
    must_still_serve(&fleet, &hub).await;
}

#[tokio::test]
async fn garbage_on_the_port_is_counted_while_a_good_connection_keeps_working() {
    let fleet = Fleet::new();
    let (mut hub, node) = (fleet.member(Role::Hub), fleet.member(node_of("north")));
    let (near, far) = connected(&node, &hub).await;

    let noise = std::net::UdpSocket::bind(loopback()).unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    let mut sent = 0;
    for round in 0..20 {
        for _ in 0..50 {
            let mut datagram = vec![0; random.usize(1..1_400)];
            random.fill(&mut datagram);
            sent += u64::from(noise.send_to(&datagram, hub.addr).is_ok());
        }
        if round % 5 == 0 {
            must_echo(&near, &far).await;
        }
    }
    // The first report comes at once; the echo afterwards shows that what was queued before it has been read.
    let refusal = soon("a report", hub.refusals.recv()).await.unwrap();
    assert_eq!(refusal.reason, RefusalReason::UnknownDatagram);
    must_echo(&near, &far).await;
    let counted = hub.transport.stats().refused(RefusalReason::UnknownDatagram);
    assert!(counted > 0 && counted <= sent, "{counted} of {sent}");
    assert!(hub.transport.stats().refusals().all(|(r, n)| n == 0 || r == RefusalReason::UnknownDatagram));
    must_still_serve(&fleet, &hub).await;
}

#[tokio::test]
async fn member_that_shakes_hands_and_then_says_nothing_is_refused_at_the_deadline() {
    let fleet = Fleet::new();
    let mut hub = fleet.member_with(&fleet.credentials(Role::Hub), |config| config.limits = hasty());
    let silent = impostor(&fleet, &fleet.credentials(node_of("north")));
    let end = end_of_stranger(&hub, silent).await;
    assert!(says(&end, "not over in time"), "{end}");
    hub.must_have_refused(RefusalReason::HandshakeTimeout).await;
    must_still_serve(&fleet, &hub).await;
}

#[tokio::test]
async fn member_of_a_later_version_says_hello_in_golden_bytes_and_loses_only_its_unknown_stream() {
    let fleet = Fleet::new();
    let mut hub = fleet.member(Role::Hub);
    let (endpoint, config) = impostor(&fleet, &fleet.credentials(node_of("north")));
    let connection = endpoint.connect_with(config, hub.addr, "codeco").unwrap().await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    // Stream kind; kind, flags and length of the message; «I speak 1 to 9».
    send.write_all(&[1, 1, 0, 0, 0, 2, 0, 0, 0, 1, 9]).await.unwrap();
    let welcome = soon("the welcome", receive.read_to_end(100)).await.unwrap();
    assert_eq!(welcome, [2, 0, 0, 0, 1, 0, 0, 0, 1], "then let it be 1");

    let far = soon("the connection", hub.transport.accept()).await.unwrap();
    let (mut odd, mut answer) = connection.open_bi().await.unwrap();
    odd.write_all(&[0xee]).await.unwrap();
    let (mut good, _) = connection.open_bi().await.unwrap();
    good.write_all(&[2]).await.unwrap();
    let (kind, _send, _receive) = soon("the good stream", far.accept_bi()).await.unwrap();
    assert_eq!(kind, StreamKind::Gossip);
    assert!(soon("the reset", answer.read_to_end(10)).await.is_err());
    let refusal = hub.must_have_refused(RefusalReason::UnknownStreamKind).await;
    assert!(refusal.detail.contains("starts with 238"), "{refusal}");
    must_still_serve(&fleet, &hub).await;
}

#[tokio::test]
async fn member_that_speaks_only_later_versions_is_refused() {
    let fleet = Fleet::new();
    let mut hub = fleet.member(Role::Hub);
    let (endpoint, config) = impostor(&fleet, &fleet.credentials(node_of("north")));
    let connection = endpoint.connect_with(config, hub.addr, "codeco").unwrap().await.unwrap();
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&[1, 1, 0, 0, 0, 2, 0, 0, 0, 8, 9]).await.unwrap();
    let end = soon("the end", connection.closed()).await.to_string();
    assert!(says(&end, "speaks protocol 8 to 9"), "{end}");
    hub.must_have_refused(RefusalReason::NoCommonProtocol).await;
    must_still_serve(&fleet, &hub).await;
}

#[tokio::test]
async fn member_whose_first_message_is_oversized_or_garbled_is_refused() {
    let fleet = Fleet::new();
    let oversized = [&[1, 1, 0, 0, 0][..], &u32::MAX.to_le_bytes()].concat();
    let garbled = [&[1, 1, 0, 0, 0][..], &2_u32.to_le_bytes(), &[0xff, 0xff]].concat();
    let not_control = vec![2, 0, 0];
    for (bytes, reason) in [
        (oversized, RefusalReason::Oversized),
        (garbled, RefusalReason::Malformed),
        (not_control, RefusalReason::Malformed),
    ] {
        let mut hub = fleet.member(Role::Hub);
        let (endpoint, config) = impostor(&fleet, &fleet.credentials(node_of("north")));
        let connection = endpoint.connect_with(config, hub.addr, "codeco").unwrap().await.unwrap();
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        soon("the end", connection.closed()).await;
        hub.must_have_refused(reason).await;
        must_still_serve(&fleet, &hub).await;
    }
}

#[tokio::test]
async fn key_that_does_not_belong_to_the_certificate_cannot_be_used_at_all() {
    let fleet = Fleet::new();
    let hub = fleet.credentials(Role::Hub);
    let error = Credentials::new(&MemberKey::generate().unwrap(), &[0; 10], hub.ca()).unwrap_err();
    assert!(error.to_string().contains("not a member's certificate"), "{error}");
}
