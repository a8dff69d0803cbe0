//! The hub's authority, its own certificate, and its first API token.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codeco_actors::acm::api::{ApiRole, ApiTokens};
use codeco_protocol::identity::{
    Ca, Credentials, KeyError, MemberKey, Registrar, TokenBook, TokenBookLimits, TrustClock, Validity,
};
use codeco_protocol::ids::{Identity, MemberId, Role};
use serde::{Deserialize, Serialize};

use super::HubError;
use super::options::HubConfig;

/// Name of the token made at the first start.
const ADMIN: &str = "bootstrap-admin";

/// How to reach the API as the first administrator: `codeco context import FILE` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminAccess {
    /// Address of the API.
    pub server: String,
    /// Certificate of the authority, PEM.
    pub ca: String,
    /// Bearer token.
    pub token: String,
}

/// File name of [`AdminAccess`] within the hub's state.
pub const ADMIN_FILE: &str = "admin.json";

pub(super) struct HubIdentity {
    pub(super) registrar: Registrar,
    pub(super) credentials: Credentials,
}

/// Loads the authority and the hub's identity, or makes them. The hub's own certificate is issued anew at each start.
pub(super) fn establish(config: &HubConfig, clock: &TrustClock) -> Result<HubIdentity, HubError> {
    let state = |path: &Path, e: std::io::Error| HubError::State { path: path.into(), detail: e.to_string() };
    std::fs::create_dir_all(&config.ca).map_err(|e| state(&config.ca, e))?;
    let ca_path = config.ca.join("ca.pem");
    let ca = if ca_path.exists() {
        Ca::load(&ca_path)?
    } else {
        let ca = Ca::create(&config.trust_domain, clock.now())?;
        ca.save(&ca_path)?;
        ca
    };
    let ca = Arc::new(ca);
    let book = TokenBook::open(&config.state.join("tokens.bin"), TokenBookLimits::default())?;
    let registrar = Registrar::new(Arc::clone(&ca), book, clock.clone(), config.certificate_life);
    let key_path = config.state.join("member.key");
    let certificate_path = config.state.join("member.pem");
    let known =
        if certificate_path.exists() { Some(Credentials::load(&key_path, &certificate_path)?) } else { None };
    let key = if key_path.exists() { MemberKey::load(&key_path)? } else { new_key(&key_path)? };
    let id = known.map_or_else(MemberId::random, |credentials| credentials.identity().id);
    let identity = Identity { role: Role::Hub, id };
    let credentials = issue(config, &ca, &key, &identity, clock)?;
    credentials.save_certificates(&certificate_path)?;
    Ok(HubIdentity { registrar, credentials })
}

fn new_key(path: &Path) -> Result<MemberKey, KeyError> {
    let key = MemberKey::generate()?;
    key.save(path)?;
    Ok(key)
}

fn issue(
    config: &HubConfig,
    ca: &Ca,
    key: &MemberKey,
    identity: &Identity,
    clock: &TrustClock,
) -> Result<Credentials, HubError> {
    let validity = Validity::starting(clock.now(), config.certificate_life);
    let issued = ca.issue(&key.signing_request()?, identity, validity)?;
    Ok(Credentials::new(key, &issued.der, ca.certificate())?)
}

/// A fresh certificate for the hub itself.
pub(super) fn renew_own(
    config: &HubConfig,
    registrar: &Registrar,
    own: &Identity,
    clock: &TrustClock,
) -> Result<Credentials, HubError> {
    let key = MemberKey::load(&config.state.join("member.key"))?;
    let credentials = issue(config, registrar.ca(), &key, own, clock)?;
    credentials.save_certificates(&config.state.join("member.pem"))?;
    Ok(credentials)
}

/// The first administrator's token, made once; the address in its file is kept right.
pub(super) fn admin_access(
    config: &HubConfig,
    tokens: &ApiTokens,
    ca_pem: String,
    api: std::net::SocketAddr,
) -> Result<PathBuf, HubError> {
    let path = config.state.join(ADMIN_FILE);
    let server = format!("https://{api}");
    let known =
        std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<AdminAccess>(&bytes).ok());
    let known = known.filter(|access| tokens.check(&access.token).is_some());
    if known.as_ref().is_some_and(|access| access.server == server && access.ca == ca_pem) {
        return Ok(path);
    }
    let token = match known {
        Some(access) => access.token,
        None => tokens.replace(ADMIN, ApiRole::Admin)?,
    };
    let access = AdminAccess { server, ca: ca_pem, token };
    let text = serde_json::to_vec_pretty(&access)
        .map_err(|e| HubError::State { path: path.clone(), detail: e.to_string() })?;
    codeco_protocol::identity::write_private(&path, &text)
        .map_err(|e| HubError::State { path: path.clone(), detail: e.to_string() })?;
    Ok(path)
}
