//! How the agent keeps its certificate fresh, with a hub or without, and gives its cluster's nodes theirs where it is
//! entitled to.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use codeco_actors::evidence::Note;
use codeco_actors::process::{IdentityState, Member, TrustKeeper};
use codeco_protocol::api::EventType;
use codeco_protocol::identity::{
    Asker, ClockNote, Credentials, CredentialsError, Expected, FileError, KeyError, LocalIssuer,
    LocalIssuerError, MemberKey, RenewGrant, RenewHandler, RenewRequest, Serial, TlsError, Trust, TrustClock,
    TrustStoreError,
};
use codeco_protocol::ids::{ClusterName, Identity, MemberId};
use codeco_protocol::transport::{Backoff, BackoffBounds};
use codeco_protocol::units::WallTime;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};

use super::credentials::{CERTIFICATE_FILE, KEY_FILE};
use super::options::AgentConfig;

const ISSUER_FILE: &str = "issuer.pem";
const TRUST_FILE: &str = "trust.bin";
/// Others asked in one round at most; each may take the transport's deadline.
const ASKED_MAX: usize = 4;

/// Why the agent cannot keep its certificate.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its certificate.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The authority's certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The list of authorities and revocations on disk.
    #[error("{path}: {source}; move it aside to start with the authority of this node's certificate alone", path = path.display())]
    Trust {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TrustStoreError,
    },
    /// The key with which it certifies others.
    #[error("{0}; move it aside: a hub grants another")]
    Issuer(#[from] LocalIssuerError),
}

/// Whom to ask for a fresh certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    address: SocketAddr,
    expected: Expected,
}

struct State {
    issuer: Option<Arc<LocalIssuer>>,
    renewals: u32,
    renewed: Option<WallTime>,
    backoff: Backoff,
    next: Instant,
    unheard: bool,
    clock_told: bool,
}

/// See the module.
pub(super) struct Renewals {
    folder: PathBuf,
    clock: TrustClock,
    time: ClockNote,
    key: MemberKey,
    own: Identity,
    cluster: Option<ClusterName>,
    hubs: Vec<SocketAddr>,
    peers: Vec<SocketAddr>,
    trust: Trust,
    keeper: TrustKeeper,
    state: Mutex<State>,
}

impl fmt::Debug for Renewals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Renewals({})", self.own)
    }
}

impl Renewals {
    /// Reads what is kept. An issuer of its own renews an expired certificate before anybody sees it: a cluster that
    /// was off for longer than certificates live starts again without a hub.
    pub(super) fn open(
        config: &AgentConfig,
        clock: TrustClock,
        time: ClockNote,
        credentials: Credentials,
    ) -> Result<(Arc<Self>, Credentials), RenewalError> {
        let trust_path = config.state.join(TRUST_FILE);
        let trust = Trust::of(&credentials)?;
        trust.load(&trust_path).map_err(|source| RenewalError::Trust { path: trust_path.clone(), source })?;
        // What the authority has dated has been.
        clock.raise_floor(credentials.validity().not_before);
        let issuer = LocalIssuer::load(&config.state.join(ISSUER_FILE))?.map(Arc::new);
        let bounds = BackoffBounds { first: Duration::from_secs(1), max: Duration::from_secs(60) };
        let state = State {
            issuer,
            renewals: 0,
            renewed: None,
            backoff: Backoff::new(bounds),
            next: Instant::now(),
            unheard: false,
            clock_told: false,
        };
        let renewals = Self {
            folder: config.state.clone(),
            key: MemberKey::load(&config.state.join(KEY_FILE))?,
            own: credentials.identity().clone(),
            cluster: credentials.identity().cluster().cloned(),
            hubs: config.hubs.clone(),
            peers: super::watch::remembered_peers(config),
            keeper: TrustKeeper::new(&trust_path, trust.version()),
            clock,
            time,
            trust,
            state: Mutex::new(state),
        };
        let expired = credentials.validity().not_after <= renewals.clock.now();
        let own = if expired { renewals.by_own_issuer() } else { None };
        let fresh = match own {
            Some(grant) => {
                let fresh = grant.credentials(&renewals.key)?;
                fresh.save_certificates(&renewals.folder.join(CERTIFICATE_FILE))?;
                tracing::info!("the certificate had expired and was renewed by this node's own issuer");
                fresh
            }
            None => credentials,
        };
        Ok((Arc::new(renewals), fresh))
    }

    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn by_own_issuer(&self) -> Option<RenewGrant> {
        let issuer = self.state().issuer.clone()?;
        let request = self.key.signing_request().ok()?;
        match issuer.renew(&request, &self.own, self.clock.now(), None) {
            Ok(grant) => Some(grant),
            Err(error) => {
                tracing::warn!(%error, "this node's own issuer did not renew its certificate");
                None
            }
        }
    }

    /// To be called every second.
    pub(super) async fn tick(
        &self,
        member: &Arc<Member>,
        lead: Option<MemberId>,
        entitled: bool,
    ) -> Result<(), String> {
        self.time.keep().map_err(|e| e.to_string())?;
        self.tell_clock(member);
        let present = member.commons.transport.credentials();
        let now = self.clock.now();
        let due = now >= present.renew_at() || present.ca_key_hash() != self.trust.active();
        let hub = member.commons.links();
        let hub = hub.values().find(|linked| linked.connection.identity().is_hub());
        let wants_issuer = entitled && hub.is_some() && self.wants_issuer(now);
        if (due || wants_issuer) && Instant::now() >= self.state().next {
            self.renew(member, &present, lead, (due, wants_issuer)).await?;
        }
        let state = {
            let state = self.state();
            let issuer = state.issuer.as_ref().filter(|issuer| self.may_issue(issuer));
            let issuer = issuer.and_then(|issuer| {
                let serial = Serial::of_certificate(issuer.issuer().certificate()).ok()?;
                Some((serial, issuer.issuer().validity().not_after))
            });
            IdentityState { renewals: state.renewals, renewed: state.renewed, issuer }
        };
        self.keeper.tick(member, state).await
    }

    fn wants_issuer(&self, now: WallTime) -> bool {
        let state = self.state();
        state.issuer.as_ref().is_none_or(|issuer| issuer.is_due(now) || !self.may_issue(issuer))
    }

    /// Whether what it signs is believed: its authority is the one that issues.
    fn may_issue(&self, issuer: &LocalIssuer) -> bool {
        codeco_protocol::identity::KeyHash::of_certificate(issuer.ca()) == Ok(self.trust.active())
    }

    fn tell_clock(&self, member: &Member) {
        let behind = self.clock.is_behind();
        if std::mem::replace(&mut self.state().clock_told, behind) == behind {
            return;
        }
        let (kind, message) = if behind {
            (
                EventType::Warning,
                "its wall clock shows a time before the last it has noted: the time is unknown, certificates are \
                 judged by the last known time; set the clock",
            )
        } else {
            (EventType::Normal, "its wall clock is right again")
        };
        self.tell(member, kind, "ClockUnknown", message.into());
    }

    fn tell(&self, member: &Member, kind: EventType, reason: &'static str, message: String) {
        member.events.tell(Note { kind, reason, object_kind: "Node", object: member.name.clone(), message });
    }

    /// Asks whoever may give a certificate, the nearest to the authority first.
    async fn renew(
        &self,
        member: &Arc<Member>,
        present: &Credentials,
        lead: Option<MemberId>,
        (due, wants_issuer): (bool, bool),
    ) -> Result<(), String> {
        let mut issuer_key = None;
        let mut issuer_request = None;
        if wants_issuer {
            let key = MemberKey::generate().map_err(|e| e.to_string())?;
            issuer_request = Some(key.signing_request().map_err(|e| e.to_string())?);
            issuer_key = Some(key);
        }
        let signing_request = self.key.signing_request().map_err(|e| e.to_string())?;
        let request = RenewRequest { signing_request, issuer_request };
        let mut said = Vec::new();
        for source in self.hubs_first(member) {
            match member.commons.transport.renew_at(source.address, source.expected, &request).await {
                // The hub may not yet have heard who leads here.
                Ok(grant) if !due && grant.made_issuer.is_none() => {
                    self.wait();
                    return Ok(());
                }
                Ok(grant) => return self.take(member, present, &grant, issuer_key, "a hub"),
                Err(error) => said.push(error.to_string()),
            }
        }
        if let Some(grant) = self.by_own_issuer().filter(|grant| self.is_active(grant)) {
            return self.take(member, present, &grant, None, "this node's own issuer");
        }
        // All at once: those that do not answer must not keep it from those that do.
        let transport = &member.commons.transport;
        let ask = |source: Source| transport.renew_at(source.address, source.expected, &request).boxed();
        let mut asked: FuturesUnordered<_> = self.others(member, lead).into_iter().map(ask).collect();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(grant) => {
                    return self.take(member, present, &grant, issuer_key, "the issuer of this cluster");
                }
                Err(error) => said.push(error.to_string()),
            }
        }
        self.wait();
        if due && !std::mem::replace(&mut self.state().unheard, true) {
            let message =
                format!("its certificate is due for renewal, but nobody gave one: {}", said.join("; "));
            self.tell(member, EventType::Warning, "CertificateNotRenewed", message);
        }
        Ok(())
    }

    fn wait(&self) {
        let mut state = self.state();
        let wait = state.backoff.next_wait(&mut fastrand::Rng::new());
        state.next = Instant::now() + wait;
    }

    fn is_active(&self, grant: &RenewGrant) -> bool {
        codeco_protocol::identity::KeyHash::of_certificate(&grant.ca) == Ok(self.trust.active())
    }

    /// Hubs that are connected.
    fn hubs_first(&self, member: &Member) -> Vec<Source> {
        let links = member.commons.links();
        let hubs = links.values().filter(|linked| linked.connection.identity().is_hub());
        let source = |linked: &codeco_actors::fabric::Linked| Source {
            address: linked.connection.remote_addr(),
            expected: Expected::Hub,
        };
        hubs.map(source).take(ASKED_MAX).collect()
    }

    /// Members of the cluster that certify its nodes, as far as connected; then the lead; then, for one whose
    /// certificate has expired and who is connected to nobody, whoever was known before.
    fn others(&self, member: &Member, lead: Option<MemberId>) -> Vec<Source> {
        let Some(cluster) = self.cluster.clone() else { return Vec::new() };
        let node = Expected::NodeOf(cluster);
        let links = member.commons.links();
        let mut addresses: Vec<(SocketAddr, Expected)> = member.commons.with_views(|views| {
            let certify = views.iter().filter(|view| {
                let lead = lead == Some(view.identity.id);
                lead || view.certificate().is_some_and(|fact| fact.issuer.is_some())
            });
            certify
                .filter(|view| view.identity.cluster() == self.cluster.as_ref() && view.identity != self.own)
                .filter_map(|view| {
                    let linked = links.get(&view.identity.id).map(|l| l.connection.remote_addr());
                    Some((linked.or_else(|| view.member()?.address)?, node.clone()))
                })
                .collect()
        });
        if links.is_empty() {
            addresses.extend(self.hubs.iter().map(|hub| (*hub, Expected::Hub)));
            let mut peers = self.peers.clone();
            fastrand::shuffle(&mut peers);
            addresses.extend(peers.into_iter().map(|peer| (peer, node.clone())));
        }
        let sources = addresses.into_iter().map(|(address, expected)| Source { address, expected });
        sources.take(2 * ASKED_MAX).collect()
    }

    /// Takes a fresh certificate into use. Nothing that runs notices.
    fn take(
        &self,
        member: &Member,
        present: &Credentials,
        grant: &RenewGrant,
        issuer_key: Option<MemberKey>,
        from: &str,
    ) -> Result<(), String> {
        if let Some(signed) = &grant.trust {
            // An authority that has just begun to issue is trusted first.
            self.trust.adopt(signed).map_err(|e| e.to_string())?;
        }
        let fresh = grant.credentials(&self.key).map_err(|e| e.to_string())?;
        if fresh.identity() != present.identity() {
            return Err(format!("{from} answered with a certificate for {}", fresh.identity()));
        }
        let chain: Vec<Vec<u8>> = fresh.chain().iter().map(|der| der.to_vec()).collect();
        self.trust
            .key_of(&chain)
            .map_err(|why| format!("{from} answered with what nobody believes: {why}"))?;
        fresh.save_certificates(&self.folder.join(CERTIFICATE_FILE)).map_err(|e| e.to_string())?;
        if let Some(key) = issuer_key
            && let Some(issuer) = LocalIssuer::granted(key, grant).map_err(|e| e.to_string())?
        {
            issuer.save(&self.folder.join(ISSUER_FILE)).map_err(|e| e.to_string())?;
            let message = "may certify the nodes of its cluster while no hub can be reached".to_owned();
            self.tell(member, EventType::Normal, "IssuerGranted", message);
            self.state().issuer = Some(Arc::new(issuer));
        }
        let expires = fresh.validity().not_after;
        self.clock.raise_floor(fresh.validity().not_before);
        member.commons.transport.renew(fresh);
        member.update(|fact| fact.certificate_expires = expires);
        let now = self.clock.now();
        {
            let mut state = self.state();
            state.renewals = state.renewals.saturating_add(1);
            state.renewed = Some(now);
            state.unheard = false;
            state.backoff.reset();
        }
        self.tell(
            member,
            EventType::Normal,
            "CertificateRenewed",
            format!("has a fresh certificate from {from}"),
        );
        Ok(())
    }
}

#[async_trait]
impl RenewHandler for Renewals {
    /// For the nodes of its own cluster alone, and only where it was made an issuer.
    async fn renew(&self, asker: Asker, request: RenewRequest) -> Result<RenewGrant, String> {
        let issuer = self.state().issuer.clone().filter(|issuer| self.may_issue(issuer));
        let issuer = issuer.ok_or("this node certifies nobody: ask a hub or the lead of the cluster")?;
        if self.trust.is_member_revoked(asker.identity().id) {
            return Err("this member was revoked".to_owned());
        }
        issuer.renew(&request.signing_request, asker.identity(), self.clock.now(), self.trust.signed())
    }
}
