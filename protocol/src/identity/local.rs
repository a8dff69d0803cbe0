//! A cluster's issuer where it is used: what it needs to renew members while no hub can be reached, and its file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::ca::{Validity, certificate_pem};
use super::files::{self, FileError};
use super::issuer::{ClusterIssuer, IssuerError};
use super::key::{MemberKey, PEM_LEN_MAX};
use super::renewal::RenewGrant;
use super::trust::SignedTrust;
use crate::ids::{Identity, Role};
use crate::units::WallTime;

/// First words of the line in the file that says how long members' certificates live.
const LIFE_LINE: &str = "certificates live, in milliseconds: ";

/// Why there is no issuer, or it issues nothing.
#[derive(Debug, thiserror::Error)]
pub enum LocalIssuerError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not what [`LocalIssuer::save`] wrote.
    #[error("{path} does not hold a cluster's issuer (key, certificate and authority's certificate, PEM): {detail}", path = path.display())]
    NotAnIssuer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Key and certificate make none.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

/// See the module.
#[derive(Debug)]
pub struct LocalIssuer {
    issuer: ClusterIssuer,
    ca: CertificateDer<'static>,
    life: Duration,
}

impl LocalIssuer {
    /// Puts together what a hub has granted to the holder of `key`; `None` if it has granted no issuer.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub fn granted(key: MemberKey, grant: &RenewGrant) -> Result<Option<Self>, IssuerError> {
        let Some(certificate) = &grant.made_issuer else { return Ok(None) };
        let issuer = ClusterIssuer::new(key, certificate)?;
        let ca = CertificateDer::from(grant.ca.clone());
        Ok(Some(Self { issuer, ca, life: Duration::from_millis(grant.life_ms) }))
    }

    /// Writes everything into one file that only its owner may read; atomic and durable.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let key = self.issuer.key().pair().serialize_pem();
        let certificates = [self.issuer.certificate(), &self.ca].map(|der| certificate_pem(der)).concat();
        let text = format!("{LIFE_LINE}{}\n{key}{certificates}", self.life.as_millis());
        files::write_private(path, text.as_bytes())
    }

    /// Reads what [`LocalIssuer::save`] wrote; `None` if there is no such file.
    ///
    /// # Errors
    /// [`LocalIssuerError`], also if others may read it.
    pub fn load(path: &Path) -> Result<Option<Self>, LocalIssuerError> {
        let content = match files::read_private(path, PEM_LEN_MAX) {
            Ok(content) => content,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let bad = |detail: String| LocalIssuerError::NotAnIssuer { path: path.to_owned(), detail };
        let text = std::str::from_utf8(&content).map_err(|e| bad(e.to_string()))?;
        let life = text.lines().find_map(|line| line.strip_prefix(LIFE_LINE)?.trim().parse().ok());
        let life = Duration::from_millis(
            life.ok_or_else(|| bad("it does not say how long certificates live".to_owned()))?,
        );
        let key = MemberKey::of_pem(&content).map_err(bad)?;
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&content)
            .collect::<Result<_, _>>()
            .map_err(|e| bad(e.to_string()))?;
        let [certificate, ca] = certificates.as_slice() else {
            return Err(bad(format!("it holds {} certificates, two were expected", certificates.len())));
        };
        Ok(Some(Self { issuer: ClusterIssuer::new(key, certificate)?, ca: ca.clone(), life }))
    }

    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> &ClusterIssuer {
        &self.issuer
    }

    /// The authority's certificate, DER.
    #[must_use]
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// Whether half of its life is over, so that a hub is to be asked for another.
    #[must_use]
    pub fn is_due(&self, now: WallTime) -> bool {
        let Validity { not_before, not_after } = self.issuer.validity();
        now.0 >= not_before.0 + not_after.0.saturating_sub(not_before.0) / 2
    }

    /// A fresh certificate for `member`.
    ///
    /// # Errors
    /// Why not, for people: it is no node of this cluster, or the issuer itself has expired.
    pub fn renew(
        &self,
        request: &[u8],
        member: &Identity,
        now: WallTime,
        trust: Option<SignedTrust>,
    ) -> Result<RenewGrant, String> {
        let cluster = self.issuer.cluster();
        if member.role != Role::Node(cluster.clone()) {
            return Err(format!("here only nodes of cluster {cluster} get certificates; ask a hub"));
        }
        if now >= self.issuer.validity().not_after {
            return Err(format!(
                "the issuer of cluster {cluster} has expired itself; only a hub can renew it"
            ));
        }
        let validity = Validity::starting(now, self.life);
        let issued = self.issuer.issue(request, member.id, validity).map_err(|e| e.to_string())?;
        Ok(RenewGrant {
            certificate: issued.der,
            issuer: Some(self.issuer.certificate().to_vec()),
            ca: self.ca.to_vec(),
            made_issuer: None,
            life_ms: u64::try_from(self.life.as_millis()).unwrap_or(u64::MAX),
            trust,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Ca, TrustDomain};
    use crate::ids::{ClusterName, MemberId};

    const NOW: WallTime = WallTime(1_800_000_000_000);

    fn node(cluster: &str) -> Identity {
        Identity { role: Role::Node(ClusterName::new(cluster).unwrap()), id: MemberId(7) }
    }

    fn granted(life_ms: u64, issuer_life: Duration) -> LocalIssuer {
        let ca = Ca::create(&TrustDomain::new("fleet.example").unwrap(), NOW).unwrap();
        let key = MemberKey::generate().unwrap();
        let validity = Validity::starting(NOW, issuer_life);
        let north = ClusterName::new("north").unwrap();
        let request = key.signing_request().unwrap();
        let made = ca.issue_for_cluster(&request, &north, MemberId(1), validity).unwrap();
        let grant = RenewGrant {
            certificate: Vec::new(),
            issuer: None,
            ca: ca.certificate().to_vec(),
            made_issuer: Some(made),
            life_ms,
            trust: None,
        };
        LocalIssuer::granted(key, &grant).unwrap().unwrap()
    }

    #[test]
    fn issuer_kept_on_disk_renews_its_own_nodes_after_a_restart_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("issuer.pem");
        assert!(LocalIssuer::load(&path).unwrap().is_none());
        granted(60_000, Duration::from_secs(3_600)).save(&path).unwrap();
        let loaded = LocalIssuer::load(&path).unwrap().unwrap();
        let key = MemberKey::generate().unwrap();
        let request = key.signing_request().unwrap();
        let grant = loaded.renew(&request, &node("north"), NOW, None).unwrap();
        let credentials = grant.credentials(&key).unwrap();
        assert_eq!(credentials.identity(), &node("north"));
        assert_eq!(credentials.validity().not_after, WallTime(NOW.0 + 60_000));
        assert!(credentials.renew_at() > NOW && credentials.renew_at() < WallTime(NOW.0 + 60_000));
        assert_eq!(credentials.summary().unwrap().issuer.unwrap().holder, MemberId(1));
        let hub = Identity { role: Role::Hub, id: MemberId(7) };
        for stranger in [node("south"), hub] {
            assert!(loaded.renew(&request, &stranger, NOW, None).unwrap_err().contains("cluster north"));
        }
        let late = WallTime(NOW.0 + 3_600_000);
        assert!(!loaded.is_due(NOW) && loaded.is_due(late));
        assert!(loaded.renew(&request, &node("north"), late, None).is_err(), "it has expired itself");
    }

    #[test]
    fn file_that_is_not_an_issuer_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("issuer.pem");
        files::write_private(&path, b"nonsense").unwrap();
        let error = LocalIssuer::load(&path).unwrap_err().to_string();
        assert!(error.contains("issuer.pem") && error.contains("how long"), "{error}");
    }
}
