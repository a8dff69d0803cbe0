//! The issuer of one cluster: it renews that cluster's nodes while nobody else can be reached.

use std::fmt;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ca::{IssueError, IssuedCertificate, Validity, sign_member};
use super::credentials::validity_of;
use super::key::MemberKey;
use super::spiffe::{IssuerId, SpiffeError, SpiffeId};
use crate::ids::{ClusterName, Identity, MemberId, Role};

/// Why key and certificate make no issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// The certificate names no cluster's issuer.
    #[error("not the certificate of a cluster's issuer: {0}")]
    Name(#[from] SpiffeError),
    /// It cannot sign with this key.
    #[error("the certificate of the issuer of cluster {cluster} cannot be used: {detail}")]
    Unusable {
        /// The cluster.
        cluster: ClusterName,
        /// What is wrong.
        detail: String,
    },
}

/// The key and the certificate of a cluster's issuer. The authority issues the certificate
/// ([`Ca::issue_for_cluster`](super::Ca::issue_for_cluster)); the key never leaves its maker.
pub struct ClusterIssuer {
    id: IssuerId,
    key: MemberKey,
    certificate: CertificateDer<'static>,
    validity: Validity,
}

impl ClusterIssuer {
    /// Puts key and certificate (DER) together. That the certificate is the authority's is judged by everybody who is
    /// shown it, and first by the node that puts its credentials together.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub fn new(key: MemberKey, certificate: &[u8]) -> Result<Self, IssuerError> {
        let id = IssuerId::of_certificate(certificate)?;
        let unusable =
            |detail: &str| IssuerError::Unusable { cluster: id.cluster.clone(), detail: detail.to_owned() };
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| unusable(&e.to_string()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key() {
            return Err(unusable("it belongs to another key"));
        }
        if !parsed.is_ca() {
            return Err(unusable("it does not allow to issue"));
        }
        let validity = validity_of(certificate)?;
        Ok(Self { key, certificate: CertificateDer::from(certificate).into_owned(), validity, id })
    }

    /// Certifies node `member` of this cluster as the holder of the key in `request` (PKCS#10, DER). The certificate
    /// ends with the issuer's own at the latest, because the chain does.
    ///
    /// # Errors
    /// [`IssueError`]; [`IssueError::BadValidity`] also if the issuer itself has expired by the asked beginning.
    pub fn issue(
        &self,
        request: &[u8],
        member: MemberId,
        validity: Validity,
    ) -> Result<IssuedCertificate, IssueError> {
        let identity = Identity { role: Role::Node(self.id.cluster.clone()), id: member };
        let id = SpiffeId { trust_domain: self.id.trust_domain.clone(), identity };
        let validity = Validity { not_after: validity.not_after.min(self.validity.not_after), ..validity };
        sign_member(&self.certificate, self.key.pair(), request, &id, validity)
    }

    /// The member that holds its key.
    #[must_use]
    pub fn holder(&self) -> MemberId {
        self.id.holder
    }

    pub(super) fn key(&self) -> &MemberKey {
        &self.key
    }

    /// The cluster whose nodes it certifies.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        &self.id.cluster
    }

    /// Its certificate, DER, which its nodes show beside their own.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// When it may issue.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

impl fmt::Debug for ClusterIssuer {
    /// Never shows the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterIssuer({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CERTIFICATE_LIFE, Ca, Credentials, TrustDomain};
    use super::*;
    use crate::identity::chain::check_issuers;
    use crate::units::WallTime;

    const NOW: WallTime = WallTime(1_800_000_000_000);

    const HOLDER: MemberId = MemberId(0x77);

    fn cluster(name: &str) -> ClusterName {
        ClusterName::new(name).unwrap()
    }

    fn life() -> Validity {
        Validity::starting(NOW, CERTIFICATE_LIFE)
    }

    fn stage(issuer_life: u32) -> (Ca, ClusterIssuer) {
        let ca = Ca::create(&TrustDomain::new("fleet.example").unwrap(), NOW).unwrap();
        let key = MemberKey::generate().unwrap();
        let validity = Validity::starting(NOW, CERTIFICATE_LIFE * issuer_life);
        let der = ca
            .issue_for_cluster(&key.signing_request().unwrap(), &cluster("north"), HOLDER, validity)
            .unwrap();
        (ca, ClusterIssuer::new(key, &der).unwrap())
    }

    /// What a stolen issuer's key can sign, whatever our own code refuses to.
    fn forge(issuer: &ClusterIssuer, role: Role) -> (MemberKey, Vec<u8>) {
        let key = MemberKey::generate().unwrap();
        let id = SpiffeId {
            trust_domain: issuer.id.trust_domain.clone(),
            identity: Identity { role, id: MemberId(9) },
        };
        let request = key.signing_request().unwrap();
        let der = sign_member(issuer.certificate(), issuer.key.pair(), &request, &id, life()).unwrap().der;
        (key, der)
    }

    #[test]
    fn node_certified_by_its_clusters_issuer_has_credentials_that_survive_a_restart() {
        let (ca, issuer) = stage(30);
        let key = MemberKey::generate().unwrap();
        let issued = issuer.issue(&key.signing_request().unwrap(), MemberId(7), life()).unwrap();
        let made = Credentials::with_issuer(&key, &issued.der, Some(issuer.certificate()), ca.certificate())
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (key_file, chain) = (folder.path().join("key.pem"), folder.path().join("chain.pem"));
        key.save(&key_file).unwrap();
        made.save_certificates(&chain).unwrap();
        let loaded = Credentials::load(&key_file, &chain).unwrap();
        assert_eq!(loaded.identity(), &Identity { role: Role::Node(cluster("north")), id: MemberId(7) });
        assert_eq!(loaded.validity().not_after, WallTime(NOW.0 + 24 * 3_600_000));
    }

    #[test]
    fn certificate_from_an_issuer_near_its_end_ends_with_it() {
        let (_, issuer) = stage(1);
        let asked = Validity::starting(NOW, CERTIFICATE_LIFE * 2);
        let request = MemberKey::generate().unwrap().signing_request().unwrap();
        let issued = issuer.issue(&request, MemberId(7), asked).unwrap();
        assert_eq!(issued.validity.not_after, issuer.validity().not_after);
        let after = Validity::starting(WallTime(NOW.0 + 48 * 3_600_000), CERTIFICATE_LIFE);
        let expired = issuer.issue(&request, MemberId(7), after);
        assert!(matches!(expired, Err(IssueError::BadValidity { .. })), "{expired:?}");
    }

    #[test]
    fn issuers_signature_on_a_hub_or_another_clusters_node_is_worth_nothing() {
        let (ca, issuer) = stage(30);
        let with = |role| {
            let (key, der) = forge(&issuer, role);
            Credentials::with_issuer(&key, &der, Some(issuer.certificate()), ca.certificate())
        };
        assert!(with(Role::Node(cluster("north"))).is_ok(), "the forger's tools work");
        for role in [Role::Hub, Role::Node(cluster("south")), Role::Node(cluster("north-1"))] {
            let error = with(role.clone()).unwrap_err().to_string();
            assert!(error.contains("its own cluster only"), "{role:?}: {error}");
        }
    }

    #[test]
    fn chain_with_an_issuer_that_is_no_clusters_is_refused_by_name() {
        let (ca, issuer) = stage(30);
        let (_, der) = forge(&issuer, Role::Node(cluster("north")));
        let other = Ca::create(&TrustDomain::new("fleet.example").unwrap(), NOW).unwrap();
        let chain = [issuer.certificate().clone(), other.certificate().clone()];
        let error =
            check_issuers(&CertificateDer::from(der), &chain, &[ca.certificate().clone()]).unwrap_err();
        assert!(error.to_string().contains("names no issuer"), "{error}");
    }

    #[test]
    fn certificate_of_a_member_or_of_another_key_makes_no_issuer() {
        let (ca, issuer) = stage(30);
        let key = MemberKey::generate().unwrap();
        let other = ClusterIssuer::new(key, issuer.certificate()).unwrap_err();
        assert!(other.to_string().contains("another key"), "{other}");
        let key = MemberKey::generate().unwrap();
        let node = Identity { role: Role::Node(cluster("north")), id: MemberId(1) };
        let der = ca.issue(&key.signing_request().unwrap(), &node, life()).unwrap().der;
        assert!(matches!(ClusterIssuer::new(key, &der), Err(IssuerError::Name(_))));
    }
}
