//! What an issuer between the authority and a member may sign.

use rustls::pki_types::CertificateDer;

use super::spiffe::{IssuerId, SpiffeError, SpiffeId};

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
/// known here, so each that is not the `root` itself must have the right: nobody honest shows one that has not.
pub(super) fn check_issuers(
    certificate: &CertificateDer<'_>,
    presented: &[CertificateDer<'_>],
    root: &CertificateDer<'_>,
) -> Result<(), ChainError> {
    let id = SpiffeId::of_certificate(certificate)?;
    for above in presented.iter().filter(|above| above.as_ref() != root.as_ref()) {
        let issuer = IssuerId::of_certificate(above)?;
        if !issuer.may_name(&id) {
            return Err(ChainError::Scope { issuer: issuer.to_string(), id: id.to_string() });
        }
    }
    Ok(())
}
