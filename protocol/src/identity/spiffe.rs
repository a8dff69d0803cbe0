//! SPIFFE ids: the one name in a member's certificate.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ids::{ClusterName, Identity, MemberId, Role};

const SCHEME: &str = "spiffe://";

/// Longest trust domain accepted, in bytes (SPIFFE-ID §2.1).
const TRUST_DOMAIN_LEN_MAX: usize = 255;

/// Why a text or a certificate names no member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Not a trust domain.
    #[error(
        "{found:?} is not a trust domain: expected 1 to 255 lower-case letters, digits, '-', '.' or '_' \
         (SPIFFE-ID §2.1)"
    )]
    TrustDomain {
        /// What was found, cut to 80 characters.
        found: String,
    },
    /// Not the id of a member.
    #[error(
        "{found:?} is not a member's SPIFFE id: expected spiffe://<trust-domain>/cluster/<cluster>/node/<uuid> \
         or spiffe://<trust-domain>/hub/<uuid>"
    )]
    Id {
        /// What was found, cut to 200 characters.
        found: String,
    },
    /// Not the issuer of a cluster.
    #[error("{found:?} names no issuer: expected spiffe://<trust-domain>/cluster/<cluster>/issuer/<uuid>")]
    Issuer {
        /// What was found, cut to 200 characters.
        found: String,
    },
    /// Not an X.509 certificate.
    #[error("the certificate cannot be read: {detail}")]
    Certificate {
        /// What the parser said.
        detail: String,
    },
    /// No URI, or several.
    #[error("the certificate has {count} URI names where exactly one was expected")]
    UriCount {
        /// Number of URIs found.
        count: usize,
    },
    /// A member of another trust domain.
    #[error("the certificate is for trust domain {found}, not for {expected}")]
    OtherTrustDomain {
        /// The certificate's.
        found: TrustDomain,
        /// Ours.
        expected: TrustDomain,
    },
}

fn cut(text: &str, len: usize) -> String {
    text.chars().take(len).collect()
}

/// A trust domain: everybody whose certificates come from one authority.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Checks `text` against SPIFFE-ID §2.1.
    ///
    /// # Errors
    /// [`SpiffeError::TrustDomain`] with what was found.
    pub fn new(text: impl Into<String>) -> Result<Self, SpiffeError> {
        let text = text.into();
        let ok = (1..=TRUST_DOMAIN_LEN_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b));
        if ok { Ok(Self(text)) } else { Err(SpiffeError::TrustDomain { found: cut(&text, 80) }) }
    }

    /// The domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE id of the domain itself, which its authority's certificate carries.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{self}")
    }

    /// The trust domain whose authority a certificate belongs to.
    pub(super) fn of_authority(certificate: &[u8]) -> Result<Self, SpiffeError> {
        let uri = only_uri(certificate)?;
        match uri.strip_prefix(SCHEME) {
            Some(domain) => Self::new(domain),
            None => Err(SpiffeError::TrustDomain { found: cut(&uri, 80) }),
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;
    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        Self::new(text)
    }
}

/// The name of a cluster's issuer, `spiffe://<trust-domain>/cluster/<cluster>/issuer/<uuid>`: it may speak for the nodes
/// of that cluster and for nothing else. The uuid is the member that holds its key: what it signed falls with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IssuerId {
    pub(super) trust_domain: TrustDomain,
    pub(super) cluster: ClusterName,
    pub(super) holder: MemberId,
}

impl IssuerId {
    pub(super) fn of_certificate(certificate: &[u8]) -> Result<Self, SpiffeError> {
        let uri = only_uri(certificate)?;
        let bad = || SpiffeError::Issuer { found: cut(&uri, 200) };
        let (domain, path) = uri.strip_prefix(SCHEME).and_then(|t| t.split_once('/')).ok_or_else(bad)?;
        let rest = path.strip_prefix("cluster/").ok_or_else(bad)?;
        let (cluster, holder) = rest.split_once("/issuer/").ok_or_else(bad)?;
        let uuid: MemberId = holder.parse().map_err(|_| bad())?;
        // The one canonical spelling, as in the ids of members.
        if uuid.to_string() != holder {
            return Err(bad());
        }
        Ok(Self {
            trust_domain: TrustDomain::new(domain)?,
            cluster: ClusterName::new(cluster).map_err(|_| bad())?,
            holder: uuid,
        })
    }

    /// Whether this issuer may name `id`: a node of its own cluster, never a hub.
    pub(super) fn may_name(&self, id: &SpiffeId) -> bool {
        self.trust_domain == id.trust_domain
            && matches!(&id.identity.role, Role::Node(cluster) if *cluster == self.cluster)
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/cluster/{}/issuer/{}", self.trust_domain, self.cluster, self.holder)
    }
}

/// A member's full name: trust domain and identity.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// Trust domain.
    pub trust_domain: TrustDomain,
    /// Role, cluster and uuid.
    pub identity: Identity,
}

impl SpiffeId {
    /// Reads the id from a certificate, which must have exactly one URI name. The signature is not checked here.
    ///
    /// # Errors
    /// [`SpiffeError`] that says what the certificate has instead.
    pub fn of_certificate(certificate: &[u8]) -> Result<Self, SpiffeError> {
        only_uri(certificate)?.parse()
    }

    /// The identity, if it belongs to `trust_domain`.
    ///
    /// # Errors
    /// [`SpiffeError::OtherTrustDomain`].
    pub fn within(self, trust_domain: &TrustDomain) -> Result<Identity, SpiffeError> {
        if self.trust_domain == *trust_domain {
            Ok(self.identity)
        } else {
            Err(SpiffeError::OtherTrustDomain { found: self.trust_domain, expected: trust_domain.clone() })
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.trust_domain, self.identity)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    /// Strict: one spelling per id, so that equal ids are equal texts.
    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let bad = || SpiffeError::Id { found: cut(text, 200) };
        let (domain, path) = text.strip_prefix(SCHEME).and_then(|t| t.split_once('/')).ok_or_else(bad)?;
        let segments: Vec<&str> = path.splitn(5, '/').collect();
        let (role, id) = match segments[..] {
            ["hub", id] => (Role::Hub, id),
            ["cluster", cluster, "node", id] => {
                (Role::Node(ClusterName::new(cluster).map_err(|_| bad())?), id)
            }
            _ => return Err(bad()),
        };
        let uuid = Uuid::try_parse(id).ok().filter(|uuid| uuid.to_string() == id).ok_or_else(bad)?;
        Ok(Self {
            trust_domain: TrustDomain::new(domain)?,
            identity: Identity { role, id: MemberId(uuid.as_u128()) },
        })
    }
}

fn only_uri(certificate: &[u8]) -> Result<String, SpiffeError> {
    let unreadable = |detail: String| SpiffeError::Certificate { detail };
    let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|e| unreadable(e.to_string()))?;
    if !rest.is_empty() {
        return Err(unreadable(format!("{} bytes follow it", rest.len())));
    }
    let names = parsed.subject_alternative_name().map_err(|e| unreadable(e.to_string()))?;
    let mut uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.count()) {
        (Some(uri), 0) => Ok(uri.to_owned()),
        (first, more) => Err(SpiffeError::UriCount { count: usize::from(first.is_some()) + more }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0190b3e2-5d6c-7a10-8c44-2f1f6f1d0a55";

    #[test]
    fn spiffe_id_golden_texts_parse_and_print_the_same() {
        let node: SpiffeId = format!("spiffe://fleet.example/cluster/north-1/node/{UUID}").parse().unwrap();
        assert_eq!(node.trust_domain.as_str(), "fleet.example");
        assert_eq!(node.identity.role, Role::Node(ClusterName::new("north-1").unwrap()));
        assert_eq!(node.identity.id.to_string(), UUID);
        assert_eq!(node.to_string(), format!("spiffe://fleet.example/cluster/north-1/node/{UUID}"));

        let hub: SpiffeId = format!("spiffe://fleet.example/hub/{UUID}").parse().unwrap();
        assert!(hub.identity.is_hub());
        assert_eq!(hub.to_string(), format!("spiffe://fleet.example/hub/{UUID}"));
    }

    #[test]
    fn spiffe_id_in_any_other_spelling_is_refused() {
        let upper = UUID.to_uppercase();
        let plain = UUID.replace('-', "");
        for bad in [
            String::new(),
            "spiffe://".to_owned(),
            format!("https://d/hub/{UUID}"),
            format!("SPIFFE://d/hub/{UUID}"),
            format!("spiffe:///hub/{UUID}"),
            format!("spiffe://D/hub/{UUID}"),
            format!("spiffe://d:443/hub/{UUID}"),
            format!("spiffe://user@d/hub/{UUID}"),
            format!("spiffe://d//hub/{UUID}"),
            format!("spiffe://d/hub/{UUID}/"),
            format!("spiffe://d/hub/{UUID}?x=1"),
            format!("spiffe://d/hub/{UUID}#x"),
            format!("spiffe://d/hub/{upper}"),
            format!("spiffe://d/hub/{plain}"),
            format!("spiffe://d/hub/{{{UUID}}}"),
            format!("spiffe://d/Hub/{UUID}"),
            format!("spiffe://d/hub/../hub/{UUID}"),
            format!("spiffe://d/node/{UUID}"),
            format!("spiffe://d/cluster/c/hub/{UUID}"),
            format!("spiffe://d/cluster//node/{UUID}"),
            format!("spiffe://d/cluster/C/node/{UUID}"),
            format!("spiffe://d/cluster/c/node/{UUID}/extra"),
            format!("spiffe://d/cluster/c%2fd/node/{UUID}"),
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn identity_of_another_trust_domain_is_refused_with_both_names() {
        let id: SpiffeId = format!("spiffe://theirs/hub/{UUID}").parse().unwrap();
        let error = id.within(&TrustDomain::new("ours").unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "the certificate is for trust domain theirs, not for ours");
    }

    #[test]
    fn certificate_that_is_none_or_names_not_exactly_one_uri_is_refused() {
        let with_uris = |uris: &[&str]| {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
            let mut params = rcgen::CertificateParams::default();
            for uri in uris {
                params.subject_alt_names.push(rcgen::SanType::URI((*uri).try_into().unwrap()));
            }
            params.self_signed(&key).unwrap().der().to_vec()
        };
        let (a, b) = (format!("spiffe://d/hub/{UUID}"), format!("spiffe://d/cluster/c/node/{UUID}"));
        assert_eq!(SpiffeId::of_certificate(&with_uris(&[&a])).unwrap().to_string(), a);
        assert_eq!(SpiffeId::of_certificate(&with_uris(&[])), Err(SpiffeError::UriCount { count: 0 }));
        assert_eq!(SpiffeId::of_certificate(&with_uris(&[&a, &b])), Err(SpiffeError::UriCount { count: 2 }));
        assert!(matches!(SpiffeId::of_certificate(b"garbage"), Err(SpiffeError::Certificate { .. })));
        let mut longer = with_uris(&[&a]);
        longer.push(0);
        assert!(matches!(SpiffeId::of_certificate(&longer), Err(SpiffeError::Certificate { .. })));
    }
}
