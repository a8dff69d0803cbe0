//! What a member shows: its key, its certificate and the authority that issued it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ca::{KeyHash, Validity, certificate_pem};
use super::chain::{ChainSummary, check_issuers};
use super::files::{self, FileError};
use super::key::{KeyError, MemberKey, PEM_LEN_MAX};
use super::spiffe::{SpiffeError, SpiffeId, TrustDomain};
use super::tls::provider;
use crate::ids::Identity;
use crate::units::WallTime;

/// Why key, certificate and authority do not go together.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate names no member, or the authority is of another trust domain.
    #[error("not a member's certificate: {0}")]
    Name(#[from] SpiffeError),
    /// The file does not hold two or three certificates.
    #[error("{path} should hold a member's certificate, its cluster's issuer's if that signed it, and then the authority's (PEM), but {detail}", path = path.display())]
    NotAChain {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The certificate belongs to another key, or is not from this authority.
    #[error("the certificate of {id} cannot be used: {detail}")]
    Mismatch {
        /// The name in the certificate.
        id: SpiffeId,
        /// What does not match.
        detail: String,
    },
}

/// A member's key, certificate and authority, checked to go together. Cheap to clone.
///
/// Whether the certificate is valid *now* is not checked here: an expired one may still be shown, for renewal.
#[derive(Clone)]
pub struct Credentials {
    id: SpiffeId,
    ca: CertificateDer<'static>,
    ca_key_hash: KeyHash,
    validity: Validity,
    certified: Arc<CertifiedKey>,
    reset_key: [u8; 32],
}

impl Credentials {
    /// Puts key, certificate and the authority's certificate together.
    ///
    /// # Errors
    /// [`CredentialsError`] that says what does not match.
    pub fn new(key: &MemberKey, certificate: &[u8], ca: &[u8]) -> Result<Self, CredentialsError> {
        Self::with_issuer(key, certificate, None, ca)
    }

    /// As [`Credentials::new`], with the certificate of the cluster's issuer if that one signed the member's.
    ///
    /// # Errors
    /// [`CredentialsError`] that says what does not match.
    pub fn with_issuer(
        key: &MemberKey,
        certificate: &[u8],
        issuer: Option<&[u8]>,
        ca: &[u8],
    ) -> Result<Self, CredentialsError> {
        let id = SpiffeId::of_certificate(certificate)?;
        let mismatch = |detail: String| CredentialsError::Mismatch { id: id.clone(), detail };
        let certificate = CertificateDer::from(certificate).into_owned();
        let ca = CertificateDer::from(ca).into_owned();
        id.clone().within(&TrustDomain::of_authority(&ca)?)?;

        let issuer = issuer.map(|der| CertificateDer::from(der).into_owned());
        let mut validity = validity_of(&certificate)?;
        if let Some(above) = &issuer {
            // A chain is valid no longer than its shortest part.
            validity.not_after = validity.not_after.min(validity_of(above)?.not_after);
        }
        check_issuers(&certificate, issuer.as_slice(), std::slice::from_ref(&ca))
            .map_err(|e| mismatch(e.to_string()))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone()).map_err(|e| mismatch(e.to_string()))?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(&certificate).map_err(|e| mismatch(e.to_string()))?,
            &roots,
            issuer.as_slice(),
            UnixTime::since_unix_epoch(Duration::from_millis(validity.not_after.0)),
            provider().signature_verification_algorithms.all,
        )
        .map_err(|e| mismatch(format!("it is not from this authority: {e}")))?;

        // Peers get the authority's certificate too, so that a joining agent can compare it with its token.
        let chain = [certificate].into_iter().chain(issuer).chain([ca.clone()]).collect();
        let certified = CertifiedKey::from_der(chain, key.private_der(), &provider())
            .map_err(|e| mismatch(format!("it belongs to another key: {e}")))?;
        let ca_key_hash = KeyHash::of_certificate(&ca)?;
        let reset_key = key.derive(b"codeco stateless reset 1");
        Ok(Self { id, ca, ca_key_hash, validity, certified: Arc::new(certified), reset_key })
    }

    /// Writes certificate and authority as PEM; atomic and durable. The key has its own file.
    ///
    /// # Errors
    /// [`CredentialsError::File`].
    pub fn save_certificates(&self, path: &Path) -> Result<(), CredentialsError> {
        let text: String = self.certified.cert.iter().map(|der| certificate_pem(der)).collect();
        Ok(files::write_private(path, text.as_bytes())?)
    }

    /// Reads what [`MemberKey::save`] and [`Credentials::save_certificates`] wrote.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn load(key: &Path, certificates: &Path) -> Result<Self, CredentialsError> {
        let key = MemberKey::load(key)?;
        let content = files::read_private(certificates, PEM_LEN_MAX)?;
        let not_a_chain =
            |detail: String| CredentialsError::NotAChain { path: certificates.to_owned(), detail };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&content)
            .collect::<Result<_, _>>()
            .map_err(|e| not_a_chain(e.to_string()))?;
        match chain.as_slice() {
            [certificate, ca] => Self::new(&key, certificate, ca),
            [certificate, issuer, ca] => Self::with_issuer(&key, certificate, Some(issuer), ca),
            _ => Err(not_a_chain(format!("it holds {} certificates", chain.len()))),
        }
    }

    /// Full name.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Role, cluster and uuid.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.id.identity
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.id.trust_domain
    }

    /// The authority's certificate, DER.
    #[must_use]
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// Hash of the authority's key.
    #[must_use]
    pub fn ca_key_hash(&self) -> KeyHash {
        self.ca_key_hash
    }

    /// When the certificate is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// When to ask for a new certificate: at two thirds of its life.
    #[must_use]
    pub fn renew_at(&self) -> WallTime {
        let life = self.validity.not_after.0.saturating_sub(self.validity.not_before.0);
        WallTime(self.validity.not_before.0 + life / 3 * 2)
    }

    /// A secret for QUIC stateless resets; the same as long as the member keeps its key.
    pub(crate) fn reset_key(&self) -> [u8; 32] {
        self.reset_key
    }

    /// The certificates shown: the member's, its cluster's issuer's if that signed it, and the authority's; DER.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// What the chain says.
    ///
    /// # Errors
    /// [`SpiffeError`]; not for credentials that were made here.
    pub fn summary(&self) -> Result<ChainSummary, SpiffeError> {
        ChainSummary::of(self.chain())
    }

    /// Signs `document` with the member's key (Ed25519); `None` if the library refuses.
    #[must_use]
    pub fn sign(&self, document: &[u8]) -> Option<Vec<u8>> {
        let signer = self.certified.key.choose_scheme(&[rustls::SignatureScheme::ED25519])?;
        signer.sign(document).ok()
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

impl fmt::Debug for Credentials {
    /// Never shows the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.id)
    }
}

/// When a certificate is valid.
pub(super) fn validity_of(certificate: &[u8]) -> Result<Validity, SpiffeError> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|e| SpiffeError::Certificate { detail: e.to_string() })?;
    let millis = |secs: i64| WallTime(u64::try_from(secs).unwrap_or(0).saturating_mul(1000));
    Ok(Validity {
        not_before: millis(parsed.validity().not_before.timestamp()),
        not_after: millis(parsed.validity().not_after.timestamp()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{CERTIFICATE_LIFE, Ca};
    use crate::ids::{MemberId, Role};

    const NOW: WallTime = WallTime(1_800_000_000_000);

    fn ca() -> Ca {
        Ca::create(&TrustDomain::new("fleet.example").unwrap(), NOW).unwrap()
    }

    fn certificate(ca: &Ca, key: &MemberKey) -> Vec<u8> {
        let hub = Identity { role: Role::Hub, id: MemberId(3) };
        let validity = Validity::starting(NOW, CERTIFICATE_LIFE);
        ca.issue(&key.signing_request().unwrap(), &hub, validity).unwrap().der
    }

    #[test]
    fn credentials_saved_and_loaded_name_the_same_member_and_renew_at_two_thirds() {
        let folder = tempfile::tempdir().unwrap();
        let (key_file, chain_file) = (folder.path().join("key.pem"), folder.path().join("chain.pem"));
        let (ca, key) = (ca(), MemberKey::generate().unwrap());
        let credentials = Credentials::new(&key, &certificate(&ca, &key), ca.certificate()).unwrap();
        key.save(&key_file).unwrap();
        credentials.save_certificates(&chain_file).unwrap();
        let loaded = Credentials::load(&key_file, &chain_file).unwrap();
        assert_eq!(loaded.id(), credentials.id());
        assert_eq!(loaded.ca_key_hash(), ca.key_hash());
        let life = 24 * 3_600_000 + 300_000;
        assert_eq!(loaded.renew_at(), WallTime(NOW.0 - 300_000 + life / 3 * 2));
    }

    #[test]
    fn certificate_with_any_byte_changed_or_cut_off_is_refused() {
        let (ca, key) = (ca(), MemberKey::generate().unwrap());
        let good = certificate(&ca, &key);
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 0x21;
            assert!(Credentials::new(&key, &changed, ca.certificate()).is_err(), "byte {at} changed");
            assert!(Credentials::new(&key, &good[..at], ca.certificate()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn credentials_of_another_key_or_another_authority_are_refused() {
        let (ours, theirs) = (ca(), ca());
        let (key, other) = (MemberKey::generate().unwrap(), MemberKey::generate().unwrap());
        let good = certificate(&ours, &key);
        let wrong_key = Credentials::new(&other, &good, ours.certificate()).unwrap_err();
        assert!(wrong_key.to_string().contains("another key"), "{wrong_key}");
        let wrong_ca = Credentials::new(&key, &good, theirs.certificate()).unwrap_err();
        assert!(wrong_ca.to_string().contains("not from this authority"), "{wrong_ca}");
    }
}
