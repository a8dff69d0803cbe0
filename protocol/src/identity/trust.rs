//! Whom a member trusts to issue certificates, and which of them were revoked.
//!
//! The authority says so in one signed document, the [`TrustList`]. Its version only grows; every member keeps the
//! newest it has seen and passes it on, and a list counts only if an authority trusted *before* has signed it. Without
//! any list a member trusts the one authority it joined under, and nothing is revoked.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use bincode::{Decode, Encode};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ca::{Ca, IssueError, KeyHash};
use super::chain::{ChainSummary, check_issuers};
use super::credentials::Credentials;
use super::files::{self, FileError};
use super::serial::Serial;
use super::spiffe::{SpiffeError, TrustDomain};
use super::tls::{TlsError, provider, verify_chain};
use crate::ids::MemberId;
use crate::units::WallTime;
use crate::wire::{self, WireMessage, kinds};

/// Authorities trusted at once at most: an old one, and its successor.
const ROOTS_MAX: usize = 2;
/// Revocations of one list at most. When an authority is replaced, the list begins anew: the successor issues
/// nothing to the revoked.
pub const REVOCATIONS_MAX: usize = 4_096;
/// What is signed is preceded by this, so that no other signature of an authority's passes for one of a list.
const CONTEXT: &[u8] = b"codeco trust list 1";

/// What is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Revoked {
    /// Every certificate of a member, and all it has signed as an issuer.
    Member(MemberId),
    /// One certificate, and all that were signed with it.
    Certificate(Serial),
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(id) => write!(f, "member {id}"),
            Self::Certificate(serial) => write!(f, "certificate {serial}"),
        }
    }
}

/// A revocation and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Revocation {
    /// What.
    pub what: Revoked,
    /// When it was revoked.
    pub at: WallTime,
}

/// Whom to trust.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TrustList {
    /// Name of the trust domain.
    pub trust_domain: String,
    /// Grows with each change.
    pub version: u64,
    /// Certificates of the authorities, DER.
    pub roots: Vec<Vec<u8>>,
    /// The authority that issues. Who has a certificate from another one gets a new one.
    pub active: KeyHash,
    /// What is revoked.
    pub revoked: Vec<Revocation>,
}

impl WireMessage for TrustList {
    const KIND: u16 = kinds::TRUST_LIST;
    const MAX_LEN: usize = 192 << 10;
}

/// A list with the signatures of authorities.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedTrust {
    /// The list, encoded.
    list: Vec<u8>,
    /// Signatures, each by one authority.
    signatures: Vec<Vec<u8>>,
}

impl WireMessage for SignedTrust {
    const KIND: u16 = kinds::SIGNED_TRUST;
    const MAX_LEN: usize = 200 << 10;
}

impl SignedTrust {
    /// `list` with the signatures of `authorities`.
    ///
    /// # Errors
    /// [`IssueError::Crypto`].
    pub fn sign(list: &TrustList, authorities: &[&Ca]) -> Result<Self, IssueError> {
        let list = wire::encode(list).map_err(|e| IssueError::Crypto { detail: e.to_string() })?;
        let text = signed_text(&list);
        let signatures = authorities.iter().map(|ca| ca.sign(&text)).collect::<Result<_, _>>()?;
        Ok(Self { list, signatures })
    }

    /// What the list says; nothing is checked but its form.
    ///
    /// # Errors
    /// [`TrustError::Malformed`].
    pub fn read(&self) -> Result<TrustList, TrustError> {
        wire::decode(&self.list).map_err(|e| TrustError::Malformed { detail: e.to_string() })
    }

    fn is_signed_by(&self, root: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(root) else { return false };
        let key =
            UnparsedPublicKey::new(&ED25519, parsed.public_key().subject_public_key.data.as_ref().to_vec());
        let text = signed_text(&self.list);
        self.signatures.iter().take(ROOTS_MAX).any(|signature| key.verify(&text, signature).is_ok())
    }
}

fn signed_text(list: &[u8]) -> Vec<u8> {
    [CONTEXT, list].concat()
}

/// Why a list was not taken. Trust is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// It cannot be read, or says what makes no sense.
    #[error("the list of authorities and revocations is malformed: {detail}")]
    Malformed {
        /// What is wrong.
        detail: String,
    },
    /// It is of another trust domain.
    #[error("the list of authorities and revocations is of trust domain {found:?}, not of {expected}")]
    OtherTrustDomain {
        /// The list's, cut to 80 characters.
        found: String,
        /// Ours.
        expected: TrustDomain,
    },
    /// No authority trusted here has signed it.
    #[error(
        "no authority trusted here has signed the list of authorities and revocations, version {version}"
    )]
    NotSigned {
        /// Version it claims.
        version: u64,
    },
}

struct Held {
    list: TrustList,
    signed: Option<SignedTrust>,
    roots: Vec<CertificateDer<'static>>,
    store: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    revoked: BTreeSet<Revoked>,
}

impl Held {
    fn of(list: TrustList, signed: Option<SignedTrust>) -> Result<Self, String> {
        let roots: Vec<CertificateDer<'static>> =
            list.roots.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let mut store = RootCertStore::empty();
        for root in &roots {
            store.add(root.clone()).map_err(|e| e.to_string())?;
        }
        let store = Arc::new(store);
        let clients = WebPkiClientVerifier::builder_with_provider(store.clone(), provider())
            .build()
            .map_err(|e| e.to_string())?;
        let revoked = list.revoked.iter().map(|revocation| revocation.what).collect();
        Ok(Self { list, signed, roots, store, clients, revoked })
    }
}

/// Whom this process trusts, now. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Trust {
    domain: TrustDomain,
    held: Arc<RwLock<Arc<Held>>>,
}

impl Trust {
    /// In the one authority of `credentials`. Nothing is revoked.
    ///
    /// # Errors
    /// [`TlsError`]: the authority's certificate cannot be used.
    pub fn of(credentials: &Credentials) -> Result<Self, TlsError> {
        Self::in_authority(credentials.trust_domain(), credentials.ca(), credentials.ca_key_hash())
    }

    /// In one authority.
    ///
    /// # Errors
    /// [`TlsError`]: its certificate cannot be used.
    pub fn in_authority(
        domain: &TrustDomain,
        root: &CertificateDer<'_>,
        active: KeyHash,
    ) -> Result<Self, TlsError> {
        let list = TrustList {
            trust_domain: domain.to_string(),
            version: 0,
            roots: vec![root.to_vec()],
            active,
            revoked: Vec::new(),
        };
        let held = Held::of(list, None).map_err(|detail| TlsError { detail })?;
        Ok(Self { domain: domain.clone(), held: Arc::new(RwLock::new(Arc::new(held))) })
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a list, if it is newer than what is known. Returns whether it was.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn adopt(&self, signed: &SignedTrust) -> Result<bool, TrustError> {
        let malformed = |detail: &str| TrustError::Malformed { detail: detail.to_owned() };
        let list = signed.read()?;
        if list.trust_domain != self.domain.as_str() {
            let found = list.trust_domain.chars().take(80).collect();
            return Err(TrustError::OtherTrustDomain { found, expected: self.domain.clone() });
        }
        let mut place = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if !place.roots.iter().any(|root| signed.is_signed_by(root)) {
            return Err(TrustError::NotSigned { version: list.version });
        }
        if list.version <= place.list.version {
            return Ok(false);
        }
        if !(1..=ROOTS_MAX).contains(&list.roots.len()) || list.revoked.len() > REVOCATIONS_MAX {
            return Err(malformed("it has too many or too few authorities, or too many revocations"));
        }
        let mut keys = Vec::new();
        for root in &list.roots {
            let read = |e: SpiffeError| TrustError::Malformed { detail: e.to_string() };
            if TrustDomain::of_authority(root).map_err(read)? != self.domain {
                return Err(malformed("it names an authority of another trust domain"));
            }
            keys.push(KeyHash::of_certificate(root).map_err(read)?);
        }
        if !keys.contains(&list.active) {
            return Err(malformed("the authority that issues is not one of those trusted"));
        }
        let held = Held::of(list, Some(signed.clone())).map_err(|detail| TrustError::Malformed { detail })?;
        *place = Arc::new(held);
        Ok(true)
    }

    /// Takes the list kept at `path`, if there is one.
    ///
    /// # Errors
    /// [`TrustStoreError`].
    pub fn load(&self, path: &Path) -> Result<(), TrustStoreError> {
        match files::read_private(path, SignedTrust::MAX_LEN as u64 + 64) {
            Ok(content) => {
                let signed: SignedTrust =
                    wire::decode(&content).map_err(|e| TrustError::Malformed { detail: e.to_string() })?;
                self.adopt(&signed)?;
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps the list at `path`; atomic and durable. Nothing is written where there is none.
    ///
    /// # Errors
    /// [`TrustStoreError`].
    pub fn save(&self, path: &Path) -> Result<(), TrustStoreError> {
        let Some(signed) = self.signed() else { return Ok(()) };
        let content = wire::encode(&signed).map_err(|e| TrustError::Malformed { detail: e.to_string() })?;
        Ok(files::write_private(path, &content)?)
    }

    /// The list, as the authority says it. Of version 0 if it has never said anything.
    #[must_use]
    pub fn list(&self) -> TrustList {
        self.held().list.clone()
    }

    /// The signed list, to be passed on.
    #[must_use]
    pub fn signed(&self) -> Option<SignedTrust> {
        self.held().signed.clone()
    }

    /// Version of the list.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.held().list.version
    }

    /// The authority that issues.
    #[must_use]
    pub fn active(&self) -> KeyHash {
        self.held().list.active
    }

    /// The trust domain.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// What of a chain was revoked, if anything.
    #[must_use]
    pub fn revoked(&self, chain: &ChainSummary) -> Option<Revoked> {
        let held = self.held();
        let mut parts = vec![Revoked::Member(chain.id.identity.id), Revoked::Certificate(chain.serial)];
        if let Some(issuer) = &chain.issuer {
            parts.extend([Revoked::Member(issuer.holder), Revoked::Certificate(issuer.serial)]);
        }
        parts.into_iter().find(|part| held.revoked.contains(part))
    }

    /// Whether a member was revoked as such.
    #[must_use]
    pub fn is_member_revoked(&self, member: MemberId) -> bool {
        self.held().revoked.contains(&Revoked::Member(member))
    }

    pub(super) fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.held().roots.clone()
    }

    pub(super) fn store(&self) -> Arc<RootCertStore> {
        self.held().store.clone()
    }

    pub(super) fn clients(&self) -> Arc<dyn ClientCertVerifier> {
        self.held().clients.clone()
    }

    /// The public key of the member whose chain this is: for signatures that outlast a connection. Whether the chain is
    /// still valid plays no part: what somebody has signed while it was stays signed.
    ///
    /// # Errors
    /// Why the chain proves nothing, for people.
    pub fn key_of(&self, chain: &[Vec<u8>]) -> Result<(ChainSummary, Vec<u8>), String> {
        let chain: Vec<CertificateDer<'_>> =
            chain.iter().take(4).map(|der| CertificateDer::from(der.as_slice())).collect();
        let summary = ChainSummary::of(&chain).map_err(|e| e.to_string())?;
        let Some((own, above)) = chain.split_first() else { return Err("it is empty".to_owned()) };
        verify_chain(own, &self.store(), above, summary.validity.not_after).map_err(|e| e.to_string())?;
        summary.id.clone().within(&self.domain).map_err(|e| e.to_string())?;
        check_issuers(own, above, &self.roots()).map_err(|e| e.to_string())?;
        if let Some(revoked) = self.revoked(&summary) {
            return Err(format!("{revoked} was revoked"));
        }
        let (_, parsed) = X509Certificate::from_der(own).map_err(|e| e.to_string())?;
        let key = parsed.public_key().subject_public_key.data.as_ref().to_vec();
        Ok((summary, key))
    }
}

/// Why the list on disk was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum TrustStoreError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What it holds.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({}, version {})", self.domain, self.version())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::{CERTIFICATE_LIFE, MemberKey, Validity};
    use crate::ids::{ClusterName, Identity, Role};

    const NOW: WallTime = WallTime(1_800_000_000_000);

    fn ca() -> Ca {
        Ca::create(&TrustDomain::new("fleet.example").unwrap(), NOW).unwrap()
    }

    fn list(version: u64, roots: &[&Ca], revoked: &[Revoked]) -> TrustList {
        TrustList {
            trust_domain: "fleet.example".to_owned(),
            version,
            roots: roots.iter().map(|ca| ca.certificate().to_vec()).collect(),
            active: roots.last().unwrap().key_hash(),
            revoked: revoked.iter().map(|what| Revocation { what: *what, at: NOW }).collect(),
        }
    }

    fn trust(ca: &Ca) -> Trust {
        Trust::in_authority(ca.trust_domain(), ca.certificate(), ca.key_hash()).unwrap()
    }

    fn chain(ca: &Ca, id: MemberId) -> Vec<Vec<u8>> {
        let key = MemberKey::generate().unwrap();
        let identity = Identity { role: Role::Node(ClusterName::new("north").unwrap()), id };
        let validity = Validity::starting(NOW, CERTIFICATE_LIFE);
        let issued = ca.issue(&key.signing_request().unwrap(), &identity, validity).unwrap();
        vec![issued.der, ca.certificate().to_vec()]
    }

    #[test]
    fn list_signed_by_a_trusted_authority_brings_its_successor_and_then_lets_the_old_one_go() {
        let (old, new) = (ca(), ca());
        let trust = trust(&old);
        let of_new = chain(&new, MemberId(1));
        assert!(trust.key_of(&of_new).is_err());
        let both = SignedTrust::sign(&list(1, &[&old, &new], &[]), &[&old]).unwrap();
        assert_eq!(trust.adopt(&both), Ok(true));
        assert_eq!(trust.adopt(&both), Ok(false), "the same again is no news");
        assert!(trust.key_of(&of_new).is_ok() && trust.key_of(&chain(&old, MemberId(2))).is_ok());
        assert_eq!(trust.active(), new.key_hash());
        let one = SignedTrust::sign(&list(2, &[&new], &[]), &[&old, &new]).unwrap();
        assert_eq!(trust.adopt(&one), Ok(true));
        assert!(trust.key_of(&chain(&old, MemberId(2))).is_err());
        assert!(
            matches!(trust.adopt(&both), Err(TrustError::NotSigned { .. })),
            "the old one is heard no more"
        );
    }

    #[test]
    fn list_of_a_stranger_changed_on_its_way_or_older_changes_nothing() {
        let (ours, stranger) = (ca(), ca());
        let trust = trust(&ours);
        let forged = SignedTrust::sign(&list(9, &[&ours, &stranger], &[]), &[&stranger]).unwrap();
        assert!(matches!(trust.adopt(&forged), Err(TrustError::NotSigned { version: 9 })));
        let good = SignedTrust::sign(&list(2, &[&ours], &[]), &[&ours]).unwrap();
        for at in 0..good.list.len() {
            let mut changed = good.clone();
            changed.list[at] ^= 1;
            assert!(trust.adopt(&changed).is_err(), "byte {at} changed");
        }
        assert_eq!(trust.adopt(&good), Ok(true));
        let older = SignedTrust::sign(&list(1, &[&ours], &[Revoked::Member(MemberId(1))]), &[&ours]).unwrap();
        assert_eq!(trust.adopt(&older), Ok(false));
        assert!(!trust.is_member_revoked(MemberId(1)));
        let senseless = TrustList { active: stranger.key_hash(), ..list(3, &[&ours], &[]) };
        let senseless = SignedTrust::sign(&senseless, &[&ours]).unwrap();
        assert!(matches!(trust.adopt(&senseless), Err(TrustError::Malformed { .. })));
        assert_eq!(trust.version(), 2);
    }

    #[test]
    fn revocation_of_a_member_or_a_certificate_survives_a_restart_and_hits_nobody_else() {
        let ours = ca();
        let before = trust(&ours);
        let (one, other) = (chain(&ours, MemberId(1)), chain(&ours, MemberId(2)));
        let serial = Serial::of_certificate(&other[0]).unwrap();
        let what = [Revoked::Member(MemberId(1)), Revoked::Certificate(serial)];
        before.adopt(&SignedTrust::sign(&list(1, &[&ours], &what), &[&ours]).unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust");
        before.save(&path).unwrap();
        let after = trust(&ours);
        after.load(&path).unwrap();
        assert!(after.key_of(&one).unwrap_err().contains("was revoked"));
        assert!(after.key_of(&other).unwrap_err().contains(&serial.to_string()));
        assert!(after.key_of(&chain(&ours, MemberId(2))).is_ok(), "another certificate of the same member");
        assert!(after.key_of(&chain(&ours, MemberId(3))).is_ok());
    }

    #[test]
    fn revocation_of_a_member_voids_what_it_signed_as_its_clusters_issuer() {
        let ours = ca();
        let trust = trust(&ours);
        let holder = MemberId(0x51);
        let key = MemberKey::generate().unwrap();
        let validity = Validity::starting(NOW, CERTIFICATE_LIFE * 30);
        let north = ClusterName::new("north").unwrap();
        let der = ours.issue_for_cluster(&key.signing_request().unwrap(), &north, holder, validity).unwrap();
        let issuer = crate::identity::ClusterIssuer::new(key, &der).unwrap();
        let request = MemberKey::generate().unwrap().signing_request().unwrap();
        let life = Validity::starting(NOW, Duration::from_secs(60));
        let issued = issuer.issue(&request, MemberId(7), life).unwrap();
        let chain = vec![issued.der, der, ours.certificate().to_vec()];
        let (summary, _) = trust.key_of(&chain).unwrap();
        assert_eq!(summary.issuer.unwrap().holder, holder);
        assert_eq!(summary.validity.not_after, WallTime(NOW.0 + 60_000));
        let signed = SignedTrust::sign(&list(1, &[&ours], &[Revoked::Member(holder)]), &[&ours]).unwrap();
        trust.adopt(&signed).unwrap();
        assert!(trust.key_of(&chain).unwrap_err().contains("was revoked"));
    }
}
