//! Fresh certificates, for members whose own has expired too; revocation; two authorities at once; unknown clocks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use codeco_protocol::identity::{
    Asker, CERTIFICATE_LIFE, Ca, Credentials, Expected, MemberKey, RenewGrant, RenewHandler, RenewRequest,
    Revocation, Revoked, SignedTrust, Trust, TrustClock, TrustDomain, TrustList, Validity,
};
use codeco_protocol::ids::{Identity, MemberId, Role};
use codeco_protocol::transport::{ConnectError, RefusalReason, RenewError};
use codeco_protocol::units::WallTime;

use crate::stage::{Fleet, connected, must_echo, must_still_serve, node_of, soon};

const HOUR: Duration = Duration::from_secs(3600);

/// Renews everybody who is let through.
#[derive(Debug)]
struct Desk {
    ca: Arc<Ca>,
    clock: TrustClock,
}

#[async_trait]
impl RenewHandler for Desk {
    async fn renew(&self, asker: Asker, request: RenewRequest) -> Result<RenewGrant, String> {
        if asker.identity().cluster().is_none() {
            return Err("only nodes".to_owned());
        }
        let validity = Validity::starting(self.clock.now(), CERTIFICATE_LIFE);
        let issued =
            self.ca.issue(&request.signing_request, asker.identity(), validity).map_err(|e| e.to_string())?;
        Ok(RenewGrant {
            certificate: issued.der,
            issuer: None,
            ca: self.ca.certificate().to_vec(),
            made_issuer: None,
            life_ms: u64::from(asker.expired),
            trust: None,
        })
    }
}

fn desk(fleet: &Fleet) -> Arc<Desk> {
    Arc::new(Desk { ca: fleet.ca.clone(), clock: fleet.clock.trust_clock() })
}

fn node_with_key(fleet: &Fleet, life: Duration) -> (MemberKey, Credentials) {
    let key = MemberKey::generate().unwrap();
    let identity = Identity { role: node_of("north"), id: MemberId::random() };
    let validity = Validity::starting(fleet.clock.now(), life);
    let issued = fleet.ca.issue(&key.signing_request().unwrap(), &identity, validity).unwrap();
    let credentials = Credentials::new(&key, &issued.der, fleet.ca.certificate()).unwrap();
    (key, credentials)
}

fn request(key: &MemberKey) -> RenewRequest {
    RenewRequest { signing_request: key.signing_request().unwrap(), issuer_request: None }
}

fn list(version: u64, roots: &[&Ca], revoked: &[Revoked]) -> TrustList {
    let at = WallTime(1);
    TrustList {
        trust_domain: "fleet.example".to_owned(),
        version,
        roots: roots.iter().map(|ca| ca.certificate().to_vec()).collect(),
        active: roots.last().unwrap().key_hash(),
        revoked: revoked.iter().map(|what| Revocation { what: *what, at }).collect(),
    }
}

#[tokio::test]
async fn member_whose_certificate_has_expired_may_renew_it_and_do_nothing_else_before() {
    let fleet = Fleet::new();
    let mut hub = fleet.member_with(&fleet.credentials(Role::Hub), |c| c.renew = Some(desk(&fleet)));
    let (key, credentials) = node_with_key(&fleet, HOUR);
    let node = fleet.member_with(&credentials, |_| {});
    let (near, far) = connected(&node, &hub).await;
    fleet.clock.advance(2 * HOUR);

    let error = node.transport.connect(hub.addr, Expected::Hub).await.unwrap_err();
    let expired = RefusalReason::CertificateExpired;
    assert!(matches!(error, ConnectError::Refused { reason, .. } if reason == expired), "{error}");
    let noted = hub.must_have_refused(expired).await;
    assert!(noted.detail.contains("only get a fresh one"), "{noted}");

    let grant = node.transport.renew_at(hub.addr, Expected::Hub, &request(&key)).await.unwrap();
    assert_eq!(grant.life_ms, 1, "the hub knew that it had expired");
    let renewed = grant.credentials(&key).unwrap();
    assert_eq!(renewed.identity(), credentials.identity());
    node.transport.renew(renewed);
    must_echo(&near, &far).await;
    let (near, far) = connected(&node, &hub).await;
    must_echo(&near, &far).await;
    assert_eq!(hub.transport.stats().renewed, 1);
}

#[tokio::test]
async fn member_that_was_revoked_neither_connects_nor_renews_and_others_do() {
    let fleet = Fleet::new();
    let mut hub = fleet.member_with(&fleet.credentials(Role::Hub), |c| c.renew = Some(desk(&fleet)));
    let (key, credentials) = node_with_key(&fleet, HOUR);
    let node = fleet.member_with(&credentials, |_| {});
    let (_near, far) = connected(&node, &hub).await;
    let what = Revoked::Member(credentials.identity().id);
    let signed = SignedTrust::sign(&list(1, &[&fleet.ca], &[what]), &[&fleet.ca]).unwrap();
    assert!(hub.transport.trust().adopt(&signed).unwrap());
    assert_eq!(hub.transport.trust().revoked(far.chain()), Some(what));

    let error = node.transport.connect(hub.addr, Expected::Hub).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { reason: RefusalReason::Revoked, .. }), "{error}");
    hub.must_have_refused(RefusalReason::Revoked).await;
    let error = node.transport.renew_at(hub.addr, Expected::Hub, &request(&key)).await.unwrap_err();
    assert!(
        matches!(error, RenewError::Connect(ConnectError::Refused { reason: RefusalReason::Revoked, .. })),
        "{error}"
    );
    must_still_serve(&fleet, &hub).await;
}

#[tokio::test]
async fn members_of_two_authorities_meet_while_both_are_trusted_and_not_after() {
    let fleet = Fleet::new();
    let successor = Ca::create(&TrustDomain::new("fleet.example").unwrap(), fleet.clock.now()).unwrap();
    let (hub, node) = (fleet.member(Role::Hub), fleet.member(node_of("north")));
    let (near, far) = connected(&node, &hub).await;
    let both = SignedTrust::sign(&list(1, &[&fleet.ca, &successor], &[]), &[&fleet.ca]).unwrap();
    for member in [&hub, &node] {
        member.transport.trust().adopt(&both).unwrap();
    }
    let key = MemberKey::generate().unwrap();
    let identity = node.transport.identity();
    let validity = Validity::starting(fleet.clock.now(), HOUR);
    let issued = successor.issue(&key.signing_request().unwrap(), &identity, validity).unwrap();
    node.transport.renew(Credentials::new(&key, &issued.der, successor.certificate()).unwrap());
    let (newer, newer_far) = connected(&node, &hub).await;
    must_echo(&newer, &newer_far).await;

    let one = SignedTrust::sign(&list(2, &[&successor], &[]), &[&fleet.ca, &successor]).unwrap();
    for member in [&hub, &node] {
        member.transport.trust().adopt(&one).unwrap();
    }
    must_echo(&near, &far).await;
    must_echo(&newer, &newer_far).await;
    // The hub still shows a certificate of the old one.
    let error = node.transport.connect(hub.addr, Expected::Hub).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotTrusted { reason: RefusalReason::ForeignCa, .. }), "{error}");
}

#[tokio::test]
async fn process_that_certifies_nobody_says_so() {
    let fleet = Fleet::new();
    let (other, node) = (fleet.member(node_of("north")), fleet.member(node_of("north")));
    let key = MemberKey::generate().unwrap();
    let request = request(&key);
    let asked = node.transport.renew_at(other.addr, Expected::Any, &request);
    let error = soon("an answer", asked).await.unwrap_err().to_string();
    assert!(error.contains("certifies nobody"), "{error}");
}

#[tokio::test]
async fn member_whose_clock_is_in_1970_connects_and_renews() {
    let fleet = Fleet::new();
    let hub = fleet.member_with(&fleet.credentials(Role::Hub), |c| c.renew = Some(desk(&fleet)));
    let (key, credentials) = node_with_key(&fleet, HOUR);
    // The last time it has noted is long before any of these certificates.
    let clock = TrustClock::with_source(|| WallTime(5_000));
    clock.raise_floor(WallTime(1_700_000_000_000));
    let node = fleet.member_with(&credentials, |config| config.clock = clock.clone());
    assert!(clock.is_behind());
    let (near, far) = connected(&node, &hub).await;
    must_echo(&near, &far).await;
    let grant = node.transport.renew_at(hub.addr, Expected::Hub, &request(&key)).await.unwrap();
    let renewed = grant.credentials(&key).unwrap();
    assert!(renewed.validity().not_after > credentials.validity().not_after);
    // One whose clock is known does not believe what is dated after it.
    let early = TrustClock::with_source(|| WallTime(1_700_000_000_000));
    let strict = fleet.member_with(&credentials, |config| config.clock = early);
    let error = strict.transport.connect(hub.addr, Expected::Hub).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotTrusted { .. }), "{error}");
}

#[tokio::test]
async fn trust_of_another_transport_of_the_same_fleet_is_its_own() {
    let fleet = Fleet::new();
    let credentials = fleet.credentials(Role::Hub);
    let trust = Trust::of(&credentials).unwrap();
    let (one, other) = (
        fleet.member_with(&credentials, |config| config.trust = Some(trust.clone())),
        fleet.member(node_of("north")),
    );
    let signed = SignedTrust::sign(&list(3, &[&fleet.ca], &[]), &[&fleet.ca]).unwrap();
    trust.adopt(&signed).unwrap();
    assert_eq!((one.transport.trust().version(), other.transport.trust().version()), (3, 0));
}
