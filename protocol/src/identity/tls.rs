//! TLS configurations that know members instead of host names.
//!
//! A peer is judged by its certificate chain, its SPIFFE id and whether that id is wanted here. Host names play no
//! part. TLS 1.3 only, always with the same explicit provider. Sessions are never resumed: a resumed session is not
//! judged again, and would outlive the certificate and the expectation it was made under.

use std::fmt;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, RootCertStore, ServerConfig, SignatureScheme,
};

use super::ca::KeyHash;
use super::chain::{ChainSummary, check_issuers};
use super::clock::{TrustClock, unix};
use super::credentials::Credentials;
use super::expected::Expected;
use super::spiffe::{SpiffeId, TrustDomain};
use super::trust::Trust;
use crate::units::WallTime;

/// Application protocol between members.
pub const ALPN_MEMBER: &[u8] = b"codeco/1";

/// Application protocol of those who want to become members.
pub const ALPN_JOIN: &[u8] = b"codeco-join/1";

/// Application protocol of members that want a fresh certificate; the one they show may have expired.
pub const ALPN_RENEW: &[u8] = b"codeco-renew/1";

/// Why a TLS configuration cannot be made: a bug or an unusable authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot configure TLS: {detail}")]
pub struct TlsError {
    /// What the library said.
    pub detail: String,
}

impl TlsError {
    fn of(error: &impl ToString) -> Self {
        Self { detail: error.to_string() }
    }
}

/// The one cryptographic provider of this project. Nothing here relies on a process-wide default.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// The credentials in use, which renewal replaces while connections live on.
#[derive(Debug)]
pub struct CredentialsSlot(RwLock<Credentials>);

impl CredentialsSlot {
    /// A slot holding `credentials`.
    #[must_use]
    pub fn new(credentials: Credentials) -> Arc<Self> {
        Arc::new(Self(RwLock::new(credentials)))
    }

    /// The credentials in use.
    #[must_use]
    pub fn get(&self) -> Credentials {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// New connections show `credentials` from now on.
    pub fn set(&self, credentials: Credentials) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = credentials;
    }
}

impl ResolvesServerCert for CredentialsSlot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get().certified())
    }
}

impl ResolvesClientCert for CredentialsSlot {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.get().certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Configuration for accepting members, under [`ALPN_RENEW`] those that want a fresh certificate, and under
/// [`ALPN_JOIN`] those without one. Whoever shows a certificate must be admitted by `admits`.
///
/// For the caller to check after the handshake: that members do show one, and that it has not expired unless they are
/// here to renew it.
///
/// # Errors
/// [`TlsError`].
pub fn member_server_config(
    slot: Arc<CredentialsSlot>,
    trust: Trust,
    clock: TrustClock,
    admits: Expected,
) -> Result<ServerConfig, TlsError> {
    let verifier = MemberVerifier { trust, clock, expected: admits };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| TlsError::of(&e))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(slot);
    config.alpn_protocols = vec![ALPN_MEMBER.to_vec(), ALPN_JOIN.to_vec(), ALPN_RENEW.to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Configuration for dialling a member that must be `expected`, under [`ALPN_MEMBER`] or [`ALPN_RENEW`].
///
/// # Errors
/// [`TlsError`].
pub fn member_client_config(
    slot: Arc<CredentialsSlot>,
    trust: Trust,
    clock: TrustClock,
    expected: Expected,
    alpn: &[u8],
) -> Result<ClientConfig, TlsError> {
    let verifier = MemberVerifier { trust, clock, expected };
    let mut config = client_builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(slot);
    finish_client(&mut config, alpn);
    Ok(config)
}

/// Configuration for joining: the server must present the authority whose key `pin` names, a certificate from it,
/// and an identity that is `expected` (of whatever trust domain that authority is for). We show no certificate.
///
/// # Errors
/// [`TlsError`].
pub fn join_client_config(
    pin: KeyHash,
    clock: TrustClock,
    expected: Expected,
) -> Result<ClientConfig, TlsError> {
    pinned_client_config(vec![pin], clock, expected)
}

/// The same, where any of several authorities will do: while one hands over to another.
///
/// # Errors
/// [`TlsError`].
pub fn pinned_client_config(
    pins: Vec<KeyHash>,
    clock: TrustClock,
    expected: Expected,
) -> Result<ClientConfig, TlsError> {
    let verifier = PinnedVerifier { pins, clock, expected };
    let mut config = client_builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    finish_client(&mut config, ALPN_JOIN);
    Ok(config)
}

fn client_builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| TlsError::of(&e))
}

fn finish_client(config: &mut ClientConfig, alpn: &[u8]) {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_sni = false;
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
}

/// A peer whose certificate is genuine, but who is not wanted here.
#[derive(thiserror::Error)]
#[error("{0}")]
struct NotWanted(String);

impl fmt::Debug for NotWanted {
    /// rustls prints errors of others with `Debug`: keep it readable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn not_wanted(detail: String) -> Error {
    CertificateError::Other(OtherError(Arc::new(NotWanted(detail)))).into()
}

/// A signature that does not verify comes from another authority of the same name, and a chain of the wrong shape from
/// a member that plays authority. Either way our authority did not issue this.
fn foreign_if_forged(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature | CertificateError::Other(_)) => {
            CertificateError::UnknownIssuer.into()
        }
        other => other,
    }
}

fn check_name(
    certificate: &CertificateDer<'_>,
    trust_domain: &TrustDomain,
    expected: &Expected,
) -> Result<(), Error> {
    let identity = SpiffeId::of_certificate(certificate)
        .and_then(|id| id.within(trust_domain))
        .map_err(|e| not_wanted(e.to_string()))?;
    if expected.admits(&identity) {
        Ok(())
    } else {
        Err(not_wanted(format!("the peer is {identity}, but {expected} was expected")))
    }
}

pub(super) fn verify_chain(
    certificate: &CertificateDer<'_>,
    roots: &RootCertStore,
    intermediates: &[CertificateDer<'_>],
    now: WallTime,
) -> Result<(), Error> {
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(certificate)?,
        roots,
        intermediates,
        unix(now),
        provider().signature_verification_algorithms.all,
    )
    .map_err(foreign_if_forged)
}

/// TLS 1.2 is never offered, so a signature of it is a protocol violation.
fn refuse_tls12() -> Error {
    PeerIncompatible::ServerDoesNotSupportTls12Or13.into()
}

fn tls13_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
}

/// Judges members of our own trust domain, whichever side they are on.
#[derive(Debug)]
struct MemberVerifier {
    trust: Trust,
    clock: TrustClock,
    expected: Expected,
}

impl MemberVerifier {
    /// Everything but signatures and time.
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        chain: &ChainSummary,
    ) -> Result<(), Error> {
        check_name(end_entity, self.trust.domain(), &self.expected)?;
        check_issuers(end_entity, intermediates, &self.trust.roots())
            .map_err(|e| not_wanted(e.to_string()))?;
        match self.trust.revoked(chain) {
            Some(_) => Err(CertificateError::Revoked.into()),
            None => Ok(()),
        }
    }
}

/// What a chain says; one that cannot be read is for the verifier of signatures to name.
fn summary(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<ChainSummary, Error> {
    let chain: Vec<CertificateDer<'_>> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
    ChainSummary::of(&chain).map_err(|e| not_wanted(e.to_string()))
}

/// The beginning of the validity of the last certificate in a chain, for judging it by an unknown clock.
fn begins(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> WallTime {
    summary(end_entity, intermediates).map_or(WallTime(0), |chain| chain.validity.not_before)
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let now = self.clock.judging(begins(end_entity, intermediates));
        verify_chain(end_entity, &self.trust.store(), intermediates, now)?;
        self.check(end_entity, intermediates, &summary(end_entity, intermediates)?)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for MemberVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Whether an expired one is good for anything is judged after the handshake.
        let mut now = self.clock.judging(begins(end_entity, intermediates));
        if let Ok(chain) = summary(end_entity, intermediates) {
            now = now.min(chain.validity.not_after.max(chain.validity.not_before));
        }
        let verified = self
            .trust
            .clients()
            .verify_client_cert(end_entity, intermediates, unix(now))
            .map_err(foreign_if_forged)?;
        self.check(end_entity, intermediates, &summary(end_entity, intermediates)?)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Judges the server a joining agent talks to, by the hash in its token alone.
#[derive(Debug)]
struct PinnedVerifier {
    pins: Vec<KeyHash>,
    clock: TrustClock,
    expected: Expected,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_pinned = |shown: &&CertificateDer<'_>| {
            KeyHash::of_certificate(shown).is_ok_and(|k| self.pins.contains(&k))
        };
        let ca = intermediates.iter().find(is_pinned).ok_or(CertificateError::UnknownIssuer)?;
        let trust_domain = TrustDomain::of_authority(ca).map_err(|e| not_wanted(e.to_string()))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let now = self.clock.judging(begins(end_entity, intermediates));
        verify_chain(end_entity, &roots, intermediates, now)?;
        check_name(end_entity, &trust_domain, &self.expected)?;
        check_issuers(end_entity, intermediates, std::slice::from_ref(ca))
            .map_err(|e| not_wanted(e.to_string()))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    use super::super::ca::{CERTIFICATE_LIFE, Ca, Validity, sign_member};
    use super::super::key::MemberKey;
    use super::*;
    use crate::ids::{ClusterName, Identity, MemberId, Role};

    const NOW: WallTime = WallTime(1_800_000_000_000);

    #[test]
    fn chain_over_a_clusters_issuer_passes_every_verifier_for_its_own_nodes_alone() {
        let ca = Ca::create(&TrustDomain::new("fleet.example").unwrap(), NOW).unwrap();
        let life = Validity::starting(NOW, CERTIFICATE_LIFE);
        let cluster = |name| ClusterName::new(name).unwrap();
        let issuer_key = MemberKey::generate().unwrap();
        let request = issuer_key.signing_request().unwrap();
        let issuer = CertificateDer::from(
            ca.issue_for_cluster(&request, &cluster("north"), MemberId(5), life).unwrap(),
        );
        let signed_as = |role| {
            let identity = Identity { role, id: MemberId(9) };
            let id = SpiffeId { trust_domain: ca.trust_domain().clone(), identity };
            CertificateDer::from(sign_member(&issuer, issuer_key.pair(), &request, &id, life).unwrap().der)
        };

        let ours = ca.issue(&request, &Identity { role: Role::Hub, id: MemberId(1) }, life).unwrap();
        let ours = Credentials::new(&issuer_key, &ours.der, ca.certificate()).unwrap();
        let clock = TrustClock::with_source(|| NOW);
        let trust = Trust::of(&ours).unwrap();
        let member = MemberVerifier { trust, clock: clock.clone(), expected: Expected::Any };
        let pinned =
            PinnedVerifier { pins: vec![ca.key_hash()], clock: clock.clone(), expected: Expected::Any };
        let chain = [issuer.clone(), ca.certificate().clone()];
        let now = unix(clock.now());
        let host = ServerName::try_from("localhost").unwrap();
        let judge = |leaf: &CertificateDer<'_>| {
            [
                member.verify_client_cert(leaf, &chain, now).map(|_| ()),
                member.verify_server_cert(leaf, &chain, &host, &[], now).map(|_| ()),
                pinned.verify_server_cert(leaf, &chain, &host, &[], now).map(|_| ()),
            ]
        };

        for verdict in judge(&signed_as(Role::Node(cluster("north")))) {
            assert_eq!(verdict, Ok(()));
        }
        for role in [Role::Hub, Role::Node(cluster("south"))] {
            for (at, verdict) in judge(&signed_as(role.clone())).into_iter().enumerate() {
                let error = verdict.expect_err("a forged name").to_string();
                assert!(error.contains("its own cluster only"), "{role:?}, verifier {at}: {error}");
            }
        }
    }
}
