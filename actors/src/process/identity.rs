//! What every member does about certificates: it passes on whom to trust, lets go of the revoked, and says how it
//! stands with its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use codeco_protocol::api::EventType;
use codeco_protocol::gossip::{CertificateFact, Fact};
use codeco_protocol::identity::{Serial, SignedTrust, TrustStoreError};
use codeco_protocol::transport::{PeerConnection, RefusalReason};
use codeco_protocol::units::WallTime;
use codeco_protocol::wire;

use super::member::Member;
use crate::evidence::Note;
use crate::fabric::{InspectRequest, inspect};

/// Members asked for a newer list at once.
const ASKED_AT_ONCE: usize = 2;

/// What a member says of its certificate beside the certificate itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IdentityState {
    /// How often it has got a fresh one since its process started.
    pub renewals: u32,
    /// When, the last time.
    pub renewed: Option<WallTime>,
    /// The certificate with which it certifies nodes of its cluster, and its end.
    pub issuer: Option<(Serial, WallTime)>,
}

/// Keeps the list of authorities and revocations, and its consequences.
#[derive(Debug)]
pub struct TrustKeeper {
    path: PathBuf,
    /// Version on disk, and version whose revocations have been acted on.
    done: Mutex<(u64, u64)>,
}

impl TrustKeeper {
    /// Keeps the list at `path`, where what is trusted now has been read from.
    #[must_use]
    pub fn new(path: &Path, version: u64) -> Self {
        Self { path: path.to_owned(), done: Mutex::new((version, 0)) }
    }

    /// To be called every second or so. Cheap where nothing has changed.
    ///
    /// # Errors
    /// The list could not be written down; it counts all the same.
    pub async fn tick(&self, member: &Arc<Member>, state: IdentityState) -> Result<(), String> {
        for peer in behind(member) {
            self.fetch(member, &peer).await;
        }
        let kept = self.act(member).map_err(|e| e.to_string());
        publish(member, state);
        kept
    }

    /// Asks a peer that goes by a newer list.
    async fn fetch(&self, member: &Member, peer: &PeerConnection) {
        let answer = match inspect(peer, &InspectRequest::Trust).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(peer = %peer.identity(), %error, "the list of authorities was not told");
                return;
            }
        };
        let adopted = wire::decode::<SignedTrust>(&answer)
            .map_err(|e| e.to_string())
            .and_then(|signed| member.commons.transport.trust().adopt(&signed).map_err(|e| e.to_string()));
        if let Err(error) = adopted {
            let who = peer.identity().to_string();
            member.events.tell(Note {
                kind: EventType::Warning,
                reason: "TrustRefused",
                object_kind: "Member",
                object: who.trim_start_matches('/').to_owned(),
                message: format!("claims a newer list of authorities and revocations: {error}"),
            });
        }
    }

    /// Writes a new list down, tells of it, and closes what is not to be trusted any more.
    fn act(&self, member: &Member) -> Result<(), TrustStoreError> {
        let trust = member.commons.transport.trust();
        let version = trust.version();
        let (saved, acted) = *self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if acted != version {
            if version > 0 {
                let list = trust.list();
                member.events.tell(Note {
                    kind: EventType::Normal,
                    reason: "TrustChanged",
                    object_kind: "Member",
                    object: member.name.clone(),
                    message: format!(
                        "goes by version {version} of the list of authorities and revocations: {} trusted, {} \
                         revocations",
                        match list.roots.len() {
                            1 => "one authority".to_owned(),
                            count => format!("{count} authorities"),
                        },
                        list.revoked.len()
                    ),
                });
            }
            self.done.lock().unwrap_or_else(PoisonError::into_inner).1 = version;
        }
        // Each time, because one may have come in by the former list a moment ago.
        for linked in member.commons.links().values() {
            if let Some(revoked) = trust.revoked(linked.connection.chain()) {
                linked.connection.refuse(RefusalReason::Revoked, &format!("{revoked} was revoked"));
            }
        }
        if saved != version {
            trust.save(&self.path)?;
            self.done.lock().unwrap_or_else(PoisonError::into_inner).0 = version;
        }
        Ok(())
    }
}

/// Connected members that say they go by a newer list than we do: a few, and not always the same, so that one that
/// claims what it has not keeps nobody from hearing the others.
fn behind(member: &Member) -> Vec<Arc<PeerConnection>> {
    let ours = member.commons.transport.trust().version();
    let links = member.commons.links();
    let mut newer: Vec<Arc<PeerConnection>> = member.commons.with_views(|views| {
        let claims = |id| views.get(id).and_then(|view| view.certificate()).map_or(0, |fact| fact.trust);
        let newer = links.iter().filter(|(id, _)| claims(**id) > ours);
        newer.map(|(_, linked)| Arc::clone(&linked.connection)).collect()
    });
    fastrand::shuffle(&mut newer);
    newer.truncate(ASKED_AT_ONCE);
    newer
}

pub(super) fn publish(member: &Member, state: IdentityState) {
    let transport = &member.commons.transport;
    let credentials = transport.credentials();
    let fact = CertificateFact {
        chain: credentials.chain().iter().map(|der| der.to_vec()).collect(),
        renewals: state.renewals,
        renewed: state.renewed,
        issuer: state.issuer,
        clock_unknown: transport.clock().is_behind(),
        trust: transport.trust().version(),
    };
    member.commons.publish_fact("certificate", Fact::Certificate(Box::new(fact)));
}
