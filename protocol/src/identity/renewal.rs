//! Fresh certificates for members, from a hub or from their cluster's issuer.

use std::fmt;

use async_trait::async_trait;
use bincode::{Decode, Encode};

use super::chain::ChainSummary;
use super::credentials::{Credentials, CredentialsError};
use super::key::MemberKey;
use super::trust::SignedTrust;
use crate::ids::Identity;
use crate::wire::{WireMessage, kinds};

/// Asks for a fresh certificate. For whom is said by the certificate shown, which may have expired.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RenewRequest {
    /// PKCS#10 request, DER: only its public key counts.
    pub signing_request: Vec<u8>,
    /// Another one, for the key with which the asker would like to certify the nodes of its cluster.
    pub issuer_request: Option<Vec<u8>>,
}

impl WireMessage for RenewRequest {
    const KIND: u16 = kinds::RENEW_REQUEST;
    const MAX_LEN: usize = 4096;
}

/// What a member gets.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RenewGrant {
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// The certificate of the cluster's issuer, if that signed it, DER.
    pub issuer: Option<Vec<u8>>,
    /// The authority's certificate, DER.
    pub ca: Vec<u8>,
    /// The certificate that makes the asker an issuer, DER; only if it asked, and is entitled.
    pub made_issuer: Option<Vec<u8>>,
    /// How long certificates live in this fleet, in milliseconds.
    pub life_ms: u64,
    /// Authorities and revocations, if anything was ever said of them.
    pub trust: Option<SignedTrust>,
}

impl RenewGrant {
    /// The credentials it makes with `key`.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn credentials(&self, key: &MemberKey) -> Result<Credentials, CredentialsError> {
        Credentials::with_issuer(key, &self.certificate, self.issuer.as_deref(), &self.ca)
    }
}

/// Answer to a [`RenewRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RenewReply {
    /// Here it is.
    Granted(Box<RenewGrant>),
    /// No, and why, for people.
    Refused(String),
}

impl WireMessage for RenewReply {
    const KIND: u16 = kinds::RENEW_REPLY;
    const MAX_LEN: usize = 224 << 10;
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Its chain, verified, not revoked.
    pub chain: ChainSummary,
    /// Whether its certificate has expired.
    pub expired: bool,
}

impl Asker {
    /// Role, cluster and uuid.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.chain.id.identity
    }
}

/// Decides about requests for fresh certificates.
#[async_trait]
pub trait RenewHandler: Send + Sync + fmt::Debug + 'static {
    /// Answers `request`; an error is why not, for people. May be dropped at the transport's deadline.
    async fn renew(&self, asker: Asker, request: RenewRequest) -> Result<RenewGrant, String>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn renewal_messages_have_golden_bytes() {
        let request = RenewRequest { signing_request: vec![0xaa], issuer_request: Some(vec![0xbb]) };
        assert_eq!(wire::encode(&request).unwrap(), [6, 0, 0, 0, 5, 0, 0, 0, 1, 0xaa, 1, 1, 0xbb]);
        let refused = RenewReply::Refused("no".to_owned());
        assert_eq!(wire::encode(&refused).unwrap(), [7, 0, 0, 0, 4, 0, 0, 0, 1, 2, b'n', b'o']);
        let grant = RenewGrant {
            certificate: vec![1],
            issuer: Some(vec![2]),
            ca: vec![3],
            made_issuer: None,
            life_ms: 60,
            trust: None,
        };
        let bytes = wire::encode(&RenewReply::Granted(Box::new(grant))).unwrap();
        assert_eq!(bytes, [7, 0, 0, 0, 11, 0, 0, 0, 0, 1, 1, 1, 1, 2, 1, 3, 0, 60, 0]);
    }
}
