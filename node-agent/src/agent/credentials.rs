//! How the agent gets its certificate, keeps it, and renews it.

use std::path::Path;
use std::time::{Duration, Instant};

use codeco_actors::fabric::{InspectRequest, inspect};
use codeco_actors::journal::JournalError;
use codeco_actors::process::Member;
use codeco_protocol::identity::{Credentials, CredentialsError, KeyError, MemberKey, TrustClock};
use codeco_protocol::transport::{Backoff, BackoffBounds, JoinConfig, JoinError, join_or_found};

use super::options::{AgentConfig, JOIN_DEADLINE};

const KEY_FILE: &str = "member.key";
const CERTIFICATE_FILE: &str = "member.pem";
/// Time for one try to join.
const TRY_DEADLINE: Duration = Duration::from_secs(5);

/// Why the agent has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Nothing to join with.
    #[error(
        "this node has no certificate yet ({0}) and was given no join token: make one with \
         `codeco token create --cluster NAME` and pass it as --join or CODECO_JOIN"
    )]
    NoToken(String),
    /// Nowhere to join.
    #[error("this node has no certificate yet and was given no hub to join: pass its UDP address as --hub")]
    NoHub,
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What is on disk cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The hub.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The electorate that this node founds.
    #[error("the electorate of this cluster was not founded: {0}; make another token with --founds")]
    Journal(#[from] JournalError),
    /// The certificate is not a node's.
    #[error("the certificate in {0} is not a node's")]
    NotANode(String),
}

/// Loads the certificate, or joins to get one.
pub(super) async fn enrol(config: &AgentConfig, clock: &TrustClock) -> Result<Credentials, EnrolError> {
    let (key_path, certificate_path) = (config.state.join(KEY_FILE), config.state.join(CERTIFICATE_FILE));
    if certificate_path.exists() {
        let credentials = Credentials::load(&key_path, &certificate_path)?;
        if credentials.identity().cluster().is_none() {
            return Err(EnrolError::NotANode(certificate_path.display().to_string()));
        }
        return Ok(credentials);
    }
    let token =
        config.join.clone().ok_or_else(|| EnrolError::NoToken(certificate_path.display().to_string()))?;
    let key = if key_path.exists() { MemberKey::load(&key_path)? } else { MemberKey::generate()? };
    key.save(&key_path)?;
    let (credentials, founds) = join(config, clock, &token, &key).await?;
    if founds {
        // Before the certificate: whoever has that never joins again, and a cluster without electorate is of no use.
        super::swm::found_electorate(&config.state, credentials.identity().id)?;
    }
    credentials.save_certificates(&certificate_path)?;
    tracing::info!(identity = %credentials.identity(), "joined");
    Ok(credentials)
}

/// Tries every hub in turn until one answers. A refusal is final; silence is not.
async fn join(
    config: &AgentConfig,
    clock: &TrustClock,
    token: &codeco_protocol::identity::JoinToken,
    key: &MemberKey,
) -> Result<(Credentials, bool), EnrolError> {
    let began = Instant::now();
    let bounds = BackoffBounds { first: Duration::from_millis(100), max: Duration::from_secs(2) };
    let mut backoff = Backoff::new(bounds);
    let mut rng = fastrand::Rng::new();
    let mut last = None;
    loop {
        for issuer in &config.hubs {
            let any = if issuer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let Ok(bind) = any.parse() else { continue };
            let join = JoinConfig {
                bind,
                issuer: *issuer,
                token: token.clone(),
                clock: clock.clone(),
                deadline: TRY_DEADLINE,
            };
            match join_or_found(&join, key).await {
                Ok(joined) => return Ok(joined),
                Err(error @ (JoinError::Refused { .. } | JoinError::Key(_) | JoinError::BadGrant { .. })) => {
                    return Err(error.into());
                }
                Err(error) => {
                    tracing::warn!(%issuer, %error, "not joined yet; trying again");
                    last = Some(error);
                }
            }
        }
        if began.elapsed() > JOIN_DEADLINE {
            return Err(last.map_or(EnrolError::NoHub, EnrolError::Join));
        }
        tokio::time::sleep(backoff.next_wait(&mut rng)).await;
    }
}

/// Asks a hub for a fresh certificate once two thirds of the present one's life are over. Nothing that runs notices.
pub(super) async fn renew_if_due(member: &Member, state: &Path, clock: &TrustClock) -> Result<(), String> {
    let (key_path, certificate_path) = (state.join(KEY_FILE), state.join(CERTIFICATE_FILE));
    let present = Credentials::load(&key_path, &certificate_path).map_err(|e| e.to_string())?;
    if clock.now() < present.renew_at() {
        return Ok(());
    }
    let links = member.commons.links();
    let Some(hub) = links.values().find(|linked| linked.connection.identity().is_hub()) else {
        tracing::warn!("the certificate is due for renewal, but no hub can be reached");
        return Ok(());
    };
    let key = MemberKey::load(&key_path).map_err(|e| e.to_string())?;
    let signing_request = key.signing_request().map_err(|e| e.to_string())?;
    let certificate = match inspect(&hub.connection, &InspectRequest::Renew { signing_request }).await {
        Ok(certificate) => certificate,
        Err(error) => {
            tracing::warn!(%error, "the certificate was not renewed; trying again later");
            return Ok(());
        }
    };
    let renewed = Credentials::new(&key, &certificate, present.ca()).map_err(|e| e.to_string())?;
    if renewed.identity() != present.identity() {
        return Err(format!("the hub answered with a certificate for {}", renewed.identity()));
    }
    renewed.save_certificates(&certificate_path).map_err(|e| e.to_string())?;
    let expires = renewed.validity().not_after;
    member.commons.transport.renew(renewed);
    member.update(|fact| fact.certificate_expires = expires);
    tracing::info!("certificate renewed");
    Ok(())
}
