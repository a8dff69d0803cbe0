//! A member's key: made where it is used, and never sent anywhere.

use std::fmt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ED25519, SigningKey};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};

use super::files::{self, FileError};

/// Longest key or certificate file read, in bytes.
pub(super) const PEM_LEN_MAX: u64 = 64 << 10;

/// Why a key could not be made, saved, loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is no key of ours.
    #[error("{path} holds no Ed25519 private key in PEM: {detail}", path = path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        detail: String,
    },
    /// The cryptographic library failed.
    #[error("cannot make a key or a signing request: {detail}")]
    Crypto {
        /// What the library said.
        detail: String,
    },
}

/// An Ed25519 key pair of a member.
pub struct MemberKey {
    pair: KeyPair,
}

impl MemberKey {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::Crypto`] if the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair =
            KeyPair::generate_for(&PKCS_ED25519).map_err(|e| KeyError::Crypto { detail: e.to_string() })?;
        Ok(Self { pair })
    }

    /// Writes the key as PEM into a file that only its owner may read; atomic and durable.
    ///
    /// # Errors
    /// [`KeyError::File`].
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        Ok(files::write_private(path, self.pair.serialize_pem().as_bytes())?)
    }

    /// Reads a key written by [`MemberKey::save`].
    ///
    /// # Errors
    /// [`KeyError::File`] also if others may read it, [`KeyError::NotAKey`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let content = files::read_private(path, PEM_LEN_MAX)?;
        let pair =
            parse_pair(&content).map_err(|detail| KeyError::NotAKey { path: path.to_owned(), detail })?;
        Ok(Self { pair })
    }

    pub(super) fn of_pem(pem: &[u8]) -> Result<Self, String> {
        Ok(Self { pair: parse_pair(pem)? })
    }

    /// Signs `document` (Ed25519).
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn sign(&self, document: &[u8]) -> Result<Vec<u8>, KeyError> {
        SigningKey::sign(&self.pair, document).map_err(|e| KeyError::Crypto { detail: e.to_string() })
    }

    /// A signing request (PKCS#10, DER). It carries the public key and proves possession; it asks for no names, as
    /// the issuer decides those.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn signing_request(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request =
            params.serialize_request(&self.pair).map_err(|e| KeyError::Crypto { detail: e.to_string() })?;
        Ok(request.der().to_vec())
    }

    /// The raw public key, 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.pair.public_key_raw()
    }

    /// A secret for another purpose, which tells nothing about the key.
    pub(super) fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.pair.serialized_der());
        hash.update(purpose);
        hash.finalize().into()
    }

    pub(super) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    pub(super) fn private_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pair.serialize_der()).into()
    }
}

impl fmt::Debug for MemberKey {
    /// Never shows the private part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberKey")
    }
}

/// Reads the first private key of a PEM text.
pub(super) fn parse_pair(pem: &[u8]) -> Result<KeyPair, String> {
    use rustls::pki_types::pem::PemObject;
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|e| e.to_string())?;
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_saved_and_loaded_is_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("member.key");
        let key = MemberKey::generate().unwrap();
        key.save(&path).unwrap();
        assert_eq!(MemberKey::load(&path).unwrap().public_key(), key.public_key());
        assert_eq!(format!("{key:?}"), "MemberKey");
    }

    #[test]
    fn key_file_with_something_else_in_it_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("member.key");
        files::write_private(&path, b"not a key").unwrap();
        let error = MemberKey::load(&path).unwrap_err();
        assert!(matches!(error, KeyError::NotAKey { .. }), "{error}");
        assert!(error.to_string().contains("member.key"), "{error}");
    }
}
