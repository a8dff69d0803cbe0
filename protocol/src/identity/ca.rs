//! The certificate authority of a trust domain.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKey,
    PublicKeyData as _, SanType, SerialNumber, SigningKey,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::{self, FileError};
use super::key::{PEM_LEN_MAX, parse_pair};
use super::spiffe::{IssuerId, SpiffeError, SpiffeId, TrustDomain};
use crate::ids::{ClusterName, Identity, MemberId};
use crate::units::WallTime;

/// How long a member's certificate lives unless asked otherwise.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Certificates are valid a little before they were made: clocks of edge nodes run apart.
const BACKDATED_BY: Duration = Duration::from_secs(5 * 60);

/// Life of the authority's own certificate: ten years.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Longest signing request looked at, in bytes. An honest Ed25519 request has about 150.
const SIGNING_REQUEST_LEN_MAX: usize = 4096;

/// SHA-256 of a SubjectPublicKeyInfo: names a key. A join token pins the authority by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// Of the key in a certificate.
    ///
    /// # Errors
    /// [`SpiffeError::Certificate`] if it is none.
    pub fn of_certificate(certificate: &[u8]) -> Result<Self, SpiffeError> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|e| SpiffeError::Certificate { detail: e.to_string() })?;
        Ok(Self(Sha256::digest(parsed.public_key().raw).into()))
    }

    fn of_key(key: &PublicKey) -> Self {
        Self(Sha256::digest(key.subject_public_key_info()).into())
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// From when to when a certificate is valid, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub not_before: WallTime,
    /// Last moment.
    pub not_after: WallTime,
}

impl Validity {
    /// From a little ago until `life` from now: five minutes, less where life is short.
    #[must_use]
    pub fn starting(now: WallTime, life: Duration) -> Self {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Self {
            not_before: WallTime(now.0.saturating_sub(millis(BACKDATED_BY.min(life / 8)))),
            not_after: WallTime(now.0.saturating_add(millis(life))),
        }
    }
}

/// Why the authority could not be made, saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not what [`Ca::save`] wrote.
    #[error("{path} does not hold a certificate authority (private key and certificate, PEM): {detail}", path = path.display())]
    NotACa {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The cryptographic library failed.
    #[error("cannot make a certificate authority: {detail}")]
    Crypto {
        /// What the library said.
        detail: String,
    },
}

/// Why no certificate was issued. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The request is not a signed PKCS#10 request for an Ed25519 key.
    #[error("the signing request is refused: {detail}")]
    BadRequest {
        /// What is wrong with it.
        detail: String,
    },
    /// The validity asked for is empty or no date.
    #[error("a certificate cannot be valid from {} to {} ms since 1970", validity.not_before.0, validity.not_after.0)]
    BadValidity {
        /// What was asked for.
        validity: Validity,
    },
    /// The cryptographic library failed.
    #[error("the certificate could not be signed: {detail}")]
    Crypto {
        /// What the library said.
        detail: String,
    },
}

/// A certificate just issued.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// Whose it is.
    pub identity: Identity,
    /// When it is valid.
    pub validity: Validity,
}

/// The authority of a trust domain: its key and its certificate.
pub struct Ca {
    trust_domain: TrustDomain,
    pair: KeyPair,
    certificate: CertificateDer<'static>,
    key_hash: KeyHash,
}

impl Ca {
    /// A new authority for `trust_domain`, valid for ten years from `now`.
    ///
    /// # Errors
    /// [`CaError::Crypto`].
    pub fn create(trust_domain: &TrustDomain, now: WallTime) -> Result<Self, CaError> {
        let failed = |e: rcgen::Error| CaError::Crypto { detail: e.to_string() };
        let pair = KeyPair::generate_for(&PKCS_ED25519).map_err(failed)?;
        let mut params = params_of(&trust_domain.uri(), &format!("CODECO authority of {trust_domain}"), {
            Validity::starting(now, CA_LIFE)
        })
        .map_err(|detail| CaError::Crypto { detail })?;
        // One intermediate below: a cluster's own issuer.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&pair).map_err(failed)?.der().clone();
        Self::of_parts(pair, certificate).map_err(|detail| CaError::Crypto { detail })
    }

    fn of_parts(pair: KeyPair, certificate: CertificateDer<'static>) -> Result<Self, String> {
        let trust_domain = TrustDomain::of_authority(&certificate).map_err(|e| e.to_string())?;
        let key_hash = KeyHash::of_certificate(&certificate).map_err(|e| e.to_string())?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|e| e.to_string())?;
        if parsed.public_key().subject_public_key.data.as_ref() != pair.public_key_raw() {
            return Err("the certificate belongs to another key".to_owned());
        }
        if !parsed.is_ca() {
            return Err("the certificate is not an authority's".to_owned());
        }
        Ok(Self { trust_domain, pair, certificate, key_hash })
    }

    /// Writes key and certificate into one file that only its owner may read; atomic and durable.
    ///
    /// # Errors
    /// [`CaError::File`].
    pub fn save(&self, path: &Path) -> Result<(), CaError> {
        let text = format!("{}{}", self.pair.serialize_pem(), certificate_pem(&self.certificate));
        Ok(files::write_private(path, text.as_bytes())?)
    }

    /// Reads what [`Ca::save`] wrote.
    ///
    /// # Errors
    /// [`CaError::File`] also if others may read it, [`CaError::NotACa`].
    pub fn load(path: &Path) -> Result<Self, CaError> {
        let content = files::read_private(path, PEM_LEN_MAX)?;
        let parse = || {
            let certificate = CertificateDer::from_pem_slice(&content).map_err(|e| e.to_string())?;
            Self::of_parts(parse_pair(&content)?, certificate)
        };
        parse().map_err(|detail| CaError::NotACa { path: path.to_owned(), detail })
    }

    /// Issues a certificate for `identity` to the holder of the key in `request` (PKCS#10, DER).
    ///
    /// Only the public key is taken from the request, after its signature was checked. Whatever names, roles or
    /// extensions it asks for are not looked at: `identity` is the issuer's decision.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue(
        &self,
        request: &[u8],
        identity: &Identity,
        validity: Validity,
    ) -> Result<IssuedCertificate, IssueError> {
        let id = SpiffeId { trust_domain: self.trust_domain.clone(), identity: identity.clone() };
        sign_member(&self.certificate, &self.pair, request, &id, validity)
    }

    /// Makes `holder`, who has the key in `request`, an issuer of `cluster`: it may certify that cluster's nodes, and
    /// neither hubs, nor nodes of other clusters, nor further issuers. Returns the certificate, DER.
    ///
    /// The cluster is in the issuer's own URI, and the check of presented issuers holds it to that. The
    /// X.509 name constraints cannot: those on URIs see the host alone (RFC 5280 §4.2.1.10), and webpki refuses every
    /// chain that has one.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue_for_cluster(
        &self,
        request: &[u8],
        cluster: &ClusterName,
        holder: MemberId,
        validity: Validity,
    ) -> Result<Vec<u8>, IssueError> {
        let id = IssuerId { trust_domain: self.trust_domain.clone(), cluster: cluster.clone(), holder };
        let name = format!("CODECO issuer {holder}");
        sign(&self.certificate, &self.pair, request, (&id.to_string(), &name), validity, |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        })
    }

    /// The key in `request`, if it is one that [`Ca::issue`] would accept: cheap, and without effect.
    ///
    /// # Errors
    /// [`IssueError::BadRequest`].
    pub fn check_request(request: &[u8]) -> Result<KeyHash, IssueError> {
        key_of_request(request).map(|key| KeyHash::of_key(&key))
    }

    /// Signs a document of the trust domain (Ed25519).
    pub(super) fn sign(&self, document: &[u8]) -> Result<Vec<u8>, IssueError> {
        SigningKey::sign(&self.pair, document).map_err(|e| IssueError::Crypto { detail: e.to_string() })
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The authority's certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Hash of the authority's public key, which join tokens pin.
    #[must_use]
    pub fn key_hash(&self) -> KeyHash {
        self.key_hash
    }
}

impl fmt::Debug for Ca {
    /// Never shows the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ca({}, {})", self.trust_domain, self.key_hash)
    }
}

/// A certificate as PEM text (RFC 7468).
#[must_use]
pub fn certificate_pem(der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A member's certificate from any issuer.
pub(super) fn sign_member(
    issuer: &CertificateDer<'_>,
    pair: &KeyPair,
    request: &[u8],
    id: &SpiffeId,
    validity: Validity,
) -> Result<IssuedCertificate, IssueError> {
    let names = (&*id.to_string(), &*id.identity.id.to_string());
    let der = sign(issuer, pair, request, names, validity, |params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    })?;
    Ok(IssuedCertificate { der, identity: id.identity.clone(), validity })
}

/// Signs what `request` proves to hold; `names` are URI and common name.
fn sign(
    issuer: &CertificateDer<'_>,
    pair: &KeyPair,
    request: &[u8],
    (uri, common_name): (&str, &str),
    validity: Validity,
    purpose: impl FnOnce(&mut CertificateParams),
) -> Result<Vec<u8>, IssueError> {
    let crypto = |detail: String| IssueError::Crypto { detail };
    let key = key_of_request(request)?;
    if validity.not_before.0 / 1000 >= validity.not_after.0 / 1000 {
        return Err(IssueError::BadValidity { validity });
    }
    let mut params =
        params_of(uri, common_name, validity).map_err(|_| IssueError::BadValidity { validity })?;
    purpose(&mut params);
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(random_serial().map_err(|e| crypto(e.to_string()))?);
    let issuer = Issuer::from_ca_cert_der(issuer, pair).map_err(|e| crypto(e.to_string()))?;
    let certificate = params.signed_by(&key, &issuer).map_err(|e| crypto(e.to_string()))?;
    Ok(certificate.der().to_vec())
}

fn params_of(uri: &str, common_name: &str, validity: Validity) -> Result<CertificateParams, String> {
    let date = |time: WallTime| {
        let secs = i64::try_from(time.0 / 1000).map_err(|e| e.to_string())?;
        OffsetDateTime::from_unix_timestamp(secs).map_err(|e| e.to_string())
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(|e: rcgen::Error| e.to_string())?)];
    params.not_before = date(validity.not_before)?;
    params.not_after = date(validity.not_after)?;
    Ok(params)
}

fn key_of_request(request: &[u8]) -> Result<PublicKey, IssueError> {
    let bad = |detail: String| IssueError::BadRequest { detail };
    if request.len() > SIGNING_REQUEST_LEN_MAX {
        return Err(bad(format!("{} bytes, at most {SIGNING_REQUEST_LEN_MAX} allowed", request.len())));
    }
    let parsed = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
        .map_err(|e| bad(e.to_string()))?;
    if *parsed.public_key.algorithm() != PKCS_ED25519 {
        return Err(bad("its key is not Ed25519".to_owned()));
    }
    Ok(parsed.public_key)
}

/// 127 random bits: unique without a counter to keep, and positive as RFC 5280 §4.1.2.2 asks.
fn random_serial() -> Result<SerialNumber, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::MemberKey;
    use crate::ids::{ClusterName, MemberId, Role};

    const NOW: WallTime = WallTime(1_800_000_000_000);

    fn ca() -> Ca {
        Ca::create(&TrustDomain::new("fleet.example").unwrap(), NOW).unwrap()
    }

    fn node() -> Identity {
        Identity { role: Role::Node(ClusterName::new("north").unwrap()), id: MemberId(0x17) }
    }

    #[test]
    fn ca_saved_and_loaded_is_the_same_authority() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let ca = ca();
        ca.save(&path).unwrap();
        let loaded = Ca::load(&path).unwrap();
        assert_eq!(loaded.key_hash(), ca.key_hash());
        assert_eq!(loaded.certificate(), ca.certificate());
        assert_eq!(loaded.trust_domain().as_str(), "fleet.example");
    }

    #[test]
    fn ca_file_whose_certificate_belongs_to_another_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let mixed = format!("{}{}", ca().pair.serialize_pem(), certificate_pem(ca().certificate()));
        files::write_private(&path, mixed.as_bytes()).unwrap();
        let error = Ca::load(&path).unwrap_err();
        assert!(error.to_string().contains("another key"), "{error}");
    }

    #[test]
    fn certificate_issued_names_the_identity_and_carries_the_requesters_key() {
        let (ca, key) = (ca(), MemberKey::generate().unwrap());
        let validity = Validity::starting(NOW, CERTIFICATE_LIFE);
        let issued = ca.issue(&key.signing_request().unwrap(), &node(), validity).unwrap();
        let id = SpiffeId::of_certificate(&issued.der).unwrap();
        assert_eq!(id.to_string(), format!("spiffe://fleet.example{}", node()));
        let (_, parsed) = X509Certificate::from_der(&issued.der).unwrap();
        assert_eq!(parsed.public_key().subject_public_key.data.as_ref(), key.public_key());
        assert_eq!(parsed.validity().not_before.timestamp(), 1_800_000_000 - 300);
        assert_eq!(parsed.validity().not_after.timestamp(), 1_800_000_000 + 24 * 3600);
        assert!(!parsed.is_ca());
    }

    #[test]
    fn signing_request_asking_for_the_hub_role_and_authority_gets_a_node_certificate() {
        let ca = ca();
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let hub = Identity { role: Role::Hub, id: MemberId(1) };
        let mut wishes = CertificateParams::default();
        wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wishes.subject_alt_names =
            vec![SanType::URI(format!("spiffe://fleet.example{hub}").as_str().try_into().unwrap())];
        let request = wishes.serialize_request(&pair).unwrap();
        let issued = ca.issue(request.der(), &node(), Validity::starting(NOW, CERTIFICATE_LIFE)).unwrap();
        assert_eq!(SpiffeId::of_certificate(&issued.der).unwrap().identity, node());
        let (_, parsed) = X509Certificate::from_der(&issued.der).unwrap();
        assert!(!parsed.is_ca());
    }

    #[test]
    fn signing_request_forged_oversized_garbled_or_of_another_algorithm_is_refused() {
        let ca = ca();
        let validity = Validity::starting(NOW, CERTIFICATE_LIFE);
        let good = MemberKey::generate().unwrap().signing_request().unwrap();
        let mut forged = good.clone();
        *forged.last_mut().unwrap() ^= 1;
        let ecdsa = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let other = CertificateParams::default().serialize_request(&ecdsa).unwrap().der().to_vec();
        for bad in [forged, other, b"garbage".to_vec(), vec![], vec![0x30; 5_000]] {
            let result = ca.issue(&bad, &node(), validity);
            assert!(matches!(result, Err(IssueError::BadRequest { .. })), "{result:?}");
        }
        for cut in 0..good.len() {
            assert!(ca.issue(&good[..cut], &node(), validity).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn validity_that_ends_before_it_starts_is_refused() {
        let request = MemberKey::generate().unwrap().signing_request().unwrap();
        let validity = Validity { not_before: WallTime(9_000), not_after: WallTime(9_500) };
        assert!(matches!(ca().issue(&request, &node(), validity), Err(IssueError::BadValidity { .. })));
    }
}
