//! How the agent gets its first certificate. How it keeps it fresh: `renewal`.

use std::time::{Duration, Instant};

use codeco_actors::journal::JournalError;
use codeco_protocol::identity::{
    Credentials, CredentialsError, JoinRefusalCode, KeyError, MemberKey, TrustClock,
};
use codeco_protocol::transport::{Backoff, BackoffBounds, JoinConfig, JoinError, join_or_found};

use super::options::{AgentConfig, JOIN_DEADLINE};

pub(super) const KEY_FILE: &str = "member.key";
pub(super) const CERTIFICATE_FILE: &str = "member.pem";
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

/// Tries every hub in turn until one answers. A refusal is final; silence is not, nor, beside it, that another hub does
/// not know the token: the silent one may be the one that does.
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
    let mut silent = false;
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
                Err(JoinError::Refused { refusal, .. })
                    if silent
                        && matches!(
                            refusal.code,
                            JoinRefusalCode::UnknownToken | JoinRefusalCode::Unavailable
                        ) =>
                {
                    tracing::warn!(%issuer, %refusal, "not joined yet; trying again");
                }
                Err(error @ (JoinError::Refused { .. } | JoinError::Key(_) | JoinError::BadGrant { .. })) => {
                    return Err(error.into());
                }
                Err(error) => {
                    tracing::warn!(%issuer, %error, "not joined yet; trying again");
                    silent = true;
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
