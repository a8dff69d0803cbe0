//! What an issuer between the authority and a member may sign, and what a chain says.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ca::Validity;
use super::credentials::validity_of;
use super::serial::Serial;
use super::spiffe::{IssuerId, SpiffeError, SpiffeId, TrustDomain};
use crate::ids::MemberId;
use crate::units::WallTime;

/// Why a genuine chain gives no right to the name at its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChainError {
    /// A certificate that cannot be read, or an issuer that is no cluster's.
    #[error(transparent)]
    Name(#[from] SpiffeError),
    /// The issuer of a cluster signed somebody who is not a node of it.
    #[error("{issuer} is no issuer for {id}: it may certify the nodes of its own cluster only")]
    Scope {
        /// The issuer.
        issuer: String,
        /// The name it signed.
        id: String,
    },
}

/// Checks that every issuer in a chain may name its end.
///
/// `presented` is what the peer showed beside its own certificate. Which of these the signature check used is not
/// known here, so each that is none of the `roots` must have the right: nobody honest shows one that has not.
pub(super) fn check_issuers(
    certificate: &CertificateDer<'_>,
    presented: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
) -> Result<(), ChainError> {
    let id = SpiffeId::of_certificate(certificate)?;
    let is_root = |shown: &CertificateDer<'_>| roots.iter().any(|root| root.as_ref() == shown.as_ref());
    for above in presented.iter().filter(|above| !is_root(above)) {
        let issuer = IssuerId::of_certificate(above)?;
        if !issuer.may_name(&id) {
            return Err(ChainError::Scope { issuer: issuer.to_string(), id: id.to_string() });
        }
    }
    Ok(())
}

/// An issuer between the authority and a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuedBy {
    /// Serial number of its certificate.
    pub serial: Serial,
    /// The member that holds its key.
    pub holder: MemberId,
}

/// What a member's certificate and those above it say. No signature is checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainSummary {
    /// Whose it is.
    pub id: SpiffeId,
    /// Serial number of the member's certificate.
    pub serial: Serial,
    /// The cluster's issuer, if one signed it.
    pub issuer: Option<IssuedBy>,
    /// When all of them are valid.
    pub validity: Validity,
}

impl ChainSummary {
    /// Of certificates as they are shown: the member's first, then its cluster's issuer's if there is one, then
    /// authorities'.
    ///
    /// # Errors
    /// [`SpiffeError`] names what cannot be read.
    pub fn of(chain: &[CertificateDer<'_>]) -> Result<Self, SpiffeError> {
        let empty = || SpiffeError::Certificate { detail: "there is none".to_owned() };
        let (own, above) = chain.split_first().ok_or_else(empty)?;
        let (_, parsed) =
            X509Certificate::from_der(own).map_err(|e| SpiffeError::Certificate { detail: e.to_string() })?;
        let serial = Serial::of_parsed(&parsed)?;
        let id = SpiffeId::of_certificate(own)?;
        let (mut validity, mut issuer) = (validity_of(own)?, None);
        for above in above.iter().filter(|above| TrustDomain::of_authority(above).is_err()) {
            let named = IssuerId::of_certificate(above)?;
            let theirs = validity_of(above)?;
            validity.not_before = validity.not_before.max(theirs.not_before);
            validity.not_after = validity.not_after.min(theirs.not_after);
            issuer = Some(IssuedBy { serial: Serial::of_certificate(above)?, holder: named.holder });
        }
        Ok(Self { id, serial, issuer, validity })
    }

    /// Whether all certificates are valid at `time`.
    #[must_use]
    pub fn is_valid_at(&self, time: WallTime) -> bool {
        self.validity.not_before <= time && time <= self.validity.not_after
    }
}
