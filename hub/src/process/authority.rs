//! The hub as authority: it certifies, revokes, and hands over to a successor.
//!
//! A hand-over takes three steps, and each waits until every member is known to have followed the one before: the new
//! authority is *made known* (both are trusted, the old one issues), then it *issues* (every member gets a new
//! certificate), then the old one is *dropped*. So no connection is lost, and nobody is left behind unseen: who does not
//! follow is named, and holds the hand-over up until it comes back or is revoked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use codeco_actors::acm::answers::{CertAuthority, Certified, Handover, Standing};
use codeco_protocol::identity::{
    Asker, Ca, ChainSummary, JoinGrant, JoinHandler, JoinRefusal, JoinRequest, KeyHash, REVOCATIONS_MAX,
    Registrar, RenewGrant, RenewHandler, RenewRequest, Revocation, Revoked, SignedTrust, SpiffeId, TokenBook,
    TokenId, Trust, TrustClock, TrustList, Validity, certificate_pem, read_private, write_private,
};
use codeco_protocol::ids::{Identity, MemberId};
use codeco_protocol::units::WallTime;

use super::HubError;
use super::options::HubConfig;

const CA_FILE: &str = "ca.pem";
const NEXT_FILE: &str = "next.pem";
const FORMER_FILE: &str = "former.pem";
const TRUST_FILE: &str = "trust.bin";
const BOOK_FILE: &str = "members.json";
/// Longest book read.
const BOOK_LEN_MAX: u64 = 16 << 20;
/// Members remembered at most. One more is certified and not remembered.
const BOOK_MAX: usize = 20_000;

/// Who is entitled to be made an issuer.
pub(super) type Entitled = Arc<dyn Fn(&Identity) -> bool + Send + Sync>;

struct Inner {
    ca: Arc<Ca>,
    former: Option<Ca>,
    next: Option<Ca>,
    book: BTreeMap<MemberId, Certified>,
}

/// See the module.
pub(super) struct Authority {
    folder: PathBuf,
    registrar: Registrar,
    clock: TrustClock,
    life: Duration,
    issuer_life: Duration,
    trust: Trust,
    inner: Mutex<Inner>,
    pub(super) entitled: OnceLock<Entitled>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({:?})", self.trust)
    }
}

fn load(path: &Path) -> Result<Option<Ca>, HubError> {
    if path.exists() { Ok(Some(Ca::load(path)?)) } else { Ok(None) }
}

fn remove(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {e}", path.display())),
        _ => Ok(()),
    }
}

impl Authority {
    /// Reads everything of the authority's folder; what a crash left half done is finished.
    pub(super) fn open(
        config: &HubConfig,
        ca: Arc<Ca>,
        registrar: Registrar,
        clock: &TrustClock,
    ) -> Result<Arc<Self>, HubError> {
        let folder = config.ca.clone();
        let state = |path: &Path, detail: String| HubError::State { path: path.to_owned(), detail };
        let trust = Trust::in_authority(ca.trust_domain(), ca.certificate(), ca.key_hash())
            .map_err(|e| HubError::Tls(e.to_string()))?;
        let trust_path = folder.join(TRUST_FILE);
        let former = load(&folder.join(FORMER_FILE))?;
        // Written before the list: a list that only the successor has signed is read through its eyes.
        trust.load(&trust_path).map_err(|e| state(&trust_path, e.to_string()))?;
        let (mut ca, mut next) = (ca, load(&folder.join(NEXT_FILE))?);
        if let Some(successor) = next.take_if(|next| next.key_hash() == trust.active()) {
            successor.save(&folder.join(CA_FILE))?;
            remove(&folder.join(NEXT_FILE)).map_err(|e| state(&folder, e))?;
            ca = Arc::new(successor);
            registrar.set_ca(Arc::clone(&ca));
        }
        let book_path = folder.join(BOOK_FILE);
        let book = match read_private(&book_path, BOOK_LEN_MAX) {
            Ok(content) => {
                let known: Vec<Certified> =
                    serde_json::from_slice(&content).map_err(|e| state(&book_path, e.to_string()))?;
                known.into_iter().map(|certified| (certified.identity.id, certified)).collect()
            }
            Err(error) if error.is_not_found() => BTreeMap::new(),
            Err(error) => return Err(state(&book_path, error.to_string())),
        };
        Ok(Arc::new(Self {
            folder,
            registrar,
            clock: clock.clone(),
            life: config.certificate_life,
            issuer_life: config.issuer_life,
            trust,
            inner: Mutex::new(Inner { ca, former, next, book }),
            entitled: OnceLock::new(),
        }))
    }

    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }

    pub(super) fn trust_path(&self) -> PathBuf {
        self.folder.join(TRUST_FILE)
    }

    pub(super) fn ca(&self) -> Arc<Ca> {
        Arc::clone(&self.inner().ca)
    }

    /// Certificates of all authorities trusted, PEM.
    pub(super) fn pem(&self) -> String {
        self.trust.list().roots.iter().map(|der| certificate_pem(der)).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers whom it has certified; on disk when this returns.
    fn remember(&self, identity: &Identity, not_after: WallTime) -> Result<(), String> {
        let mut inner = self.inner();
        if inner.book.len() >= BOOK_MAX && !inner.book.contains_key(&identity.id) {
            return Ok(());
        }
        inner.book.insert(identity.id, Certified { identity: identity.clone(), not_after });
        self.write_book(&inner)
    }

    fn write_book(&self, inner: &Inner) -> Result<(), String> {
        let all: Vec<&Certified> = inner.book.values().collect();
        let text = serde_json::to_vec(&all).map_err(|e| e.to_string())?;
        write_private(&self.folder.join(BOOK_FILE), &text).map_err(|e| e.to_string())
    }

    fn certify(&self, asker: &Identity, request: &RenewRequest) -> Result<RenewGrant, String> {
        if self.trust.is_member_revoked(asker.id) {
            return Err("this member was revoked".to_owned());
        }
        let (ca, now) = (self.ca(), self.clock.now());
        let validity = Validity::starting(now, self.life);
        let issued = ca.issue(&request.signing_request, asker, validity).map_err(|e| e.to_string())?;
        let entitled = || self.entitled.get().is_some_and(|entitled| entitled(asker));
        let made_issuer = match (&request.issuer_request, asker.cluster()) {
            (Some(request), Some(cluster)) if entitled() => {
                let validity = Validity::starting(now, self.issuer_life);
                let made = ca.issue_for_cluster(request, cluster, asker.id, validity);
                Some(made.map_err(|e| e.to_string())?)
            }
            _ => None,
        };
        self.remember(asker, validity.not_after)?;
        Ok(RenewGrant {
            certificate: issued.der,
            issuer: None,
            ca: ca.certificate().to_vec(),
            made_issuer,
            life_ms: u64::try_from(self.life.as_millis()).unwrap_or(u64::MAX),
            trust: self.trust.signed(),
        })
    }

    /// Signs and keeps what `change` makes of the list, and goes by it.
    fn announce(&self, inner: &Inner, change: impl FnOnce(&mut TrustList)) -> Result<(), String> {
        let mut list = self.trust.list();
        list.version += 1;
        change(&mut list);
        let mut authorities: Vec<&Ca> = vec![&inner.ca];
        authorities.extend(inner.former.as_ref());
        authorities.extend(inner.next.as_ref().filter(|next| next.key_hash() == list.active));
        let signed = SignedTrust::sign(&list, &authorities).map_err(|e| e.to_string())?;
        let content = codeco_protocol::wire::encode(&signed).map_err(|e| e.to_string())?;
        write_private(&self.trust_path(), &content).map_err(|e| e.to_string())?;
        self.trust.adopt(&signed).map(drop).map_err(|e| e.to_string())
    }

    /// Takes the next step of a hand-over, if everybody has followed the last one. Says what it did.
    pub(super) fn step(
        &self,
        standings: &BTreeMap<MemberId, Standing>,
    ) -> Result<Option<&'static str>, String> {
        let handover = self.handover();
        if handover == Handover::None || !self.awaited(standings).is_empty() {
            return Ok(None);
        }
        let mut inner = self.inner();
        match handover {
            Handover::None => Ok(None),
            Handover::MadeKnown => {
                let Some(next) = inner.next.as_ref().map(Ca::key_hash) else {
                    return Err(
                        "the key of the successor is gone: restore next.pem in the authority's folder".into(),
                    );
                };
                inner.ca.save(&self.folder.join(FORMER_FILE)).map_err(|e| e.to_string())?;
                self.announce(&inner, |list| list.active = next)?;
                let Some(next) = inner.next.take() else { return Ok(None) };
                next.save(&self.folder.join(CA_FILE)).map_err(|e| e.to_string())?;
                remove(&self.folder.join(NEXT_FILE))?;
                inner.former = Ca::load(&self.folder.join(FORMER_FILE)).ok();
                inner.ca = Arc::new(next);
                self.registrar.set_ca(Arc::clone(&inner.ca));
                Ok(Some(
                    "every member trusts the new authority: it issues from now on, and all get new certificates",
                ))
            }
            Handover::Reissuing => {
                let root = inner.ca.certificate().to_vec();
                let trust = &self.trust;
                let revoked: Vec<MemberId> =
                    inner.book.keys().copied().filter(|id| trust.is_member_revoked(*id)).collect();
                inner.book.retain(|id, _| !revoked.contains(id));
                self.write_book(&inner)?;
                self.announce(&inner, |list| {
                    list.roots = vec![root];
                    // The successor has issued nothing to them.
                    list.revoked.clear();
                })?;
                inner.former = None;
                remove(&self.folder.join(FORMER_FILE))?;
                Ok(Some(
                    "every member has a certificate of the new authority: the old one is trusted no more",
                ))
            }
        }
    }
}

impl CertAuthority for Authority {
    fn members(&self) -> Vec<Certified> {
        self.inner().book.values().cloned().collect()
    }

    fn revoke(&self, what: Revoked) -> Result<bool, String> {
        let inner = self.inner();
        let list = self.trust.list();
        if list.revoked.iter().any(|known| known.what == what) {
            return Ok(false);
        }
        if list.revoked.len() >= REVOCATIONS_MAX {
            return Err(format!(
                "{REVOCATIONS_MAX} revocations are listed, which is the limit: `codeco ca rotate` begins a new list"
            ));
        }
        // Or its holder would join again with the token that made it a member.
        self.registrar.with_book(TokenBook::forget_bearers).map_err(|e| e.to_string())?;
        let at = self.clock.now();
        self.announce(&inner, |list| list.revoked.push(Revocation { what, at }))?;
        Ok(true)
    }

    fn rotate(&self) -> Result<bool, String> {
        let mut inner = self.inner();
        if self.handover() != Handover::None {
            return Ok(false);
        }
        if inner.next.is_none() {
            let next = Ca::create(inner.ca.trust_domain(), self.clock.now()).map_err(|e| e.to_string())?;
            next.save(&self.folder.join(NEXT_FILE)).map_err(|e| e.to_string())?;
            inner.next = Some(next);
        }
        let root = inner.next.as_ref().map(|next| next.certificate().to_vec());
        self.announce(&inner, |list| list.roots.extend(root))?;
        Ok(true)
    }

    fn handover(&self) -> Handover {
        let list = self.trust.list();
        match list.roots.as_slice() {
            [_] => Handover::None,
            [old, ..] if KeyHash::of_certificate(old) == Ok(list.active) => Handover::MadeKnown,
            _ => Handover::Reissuing,
        }
    }

    fn awaited(&self, standings: &BTreeMap<MemberId, Standing>) -> Vec<Identity> {
        let (list, handover) = (self.trust.list(), self.handover());
        let followed = |standing: &Standing| match handover {
            Handover::None => true,
            Handover::MadeKnown => standing.trust >= list.version,
            Handover::Reissuing => standing.authority == list.active,
        };
        let book = self.inner().book.clone();
        book.into_values()
            .filter(|known| !self.trust.is_member_revoked(known.identity.id))
            .filter(|known| !standings.get(&known.identity.id).is_some_and(followed))
            .map(|known| known.identity)
            .collect()
    }
}

#[async_trait]
impl RenewHandler for Authority {
    async fn renew(&self, asker: Asker, request: RenewRequest) -> Result<RenewGrant, String> {
        // Small files, rarely written: a member gets a certificate every sixteen hours.
        tokio::task::block_in_place(|| self.certify(asker.identity(), &request))
    }
}

#[async_trait]
impl JoinHandler for Authority {
    async fn join(&self, peer: std::net::SocketAddr, request: JoinRequest) -> Result<JoinGrant, JoinRefusal> {
        let grant = self.registrar.join(peer, request).await?;
        if let Ok(id) = SpiffeId::of_certificate(&grant.certificate) {
            let chain = [grant.certificate.clone().into()];
            let ends = ChainSummary::of(&chain).map_or(WallTime(0), |chain| chain.validity.not_after);
            if let Err(error) = tokio::task::block_in_place(|| self.remember(&id.identity, ends)) {
                tracing::warn!(%error, "a new member is not remembered by the authority yet");
            }
        }
        Ok(grant)
    }

    fn founds(&self, token: TokenId) -> bool {
        self.registrar.founds(token)
    }
}

#[cfg(test)]
mod tests {
    use codeco_protocol::identity::{JoinRefusalCode, MemberKey, TokenBookLimits, TrustDomain};
    use codeco_protocol::ids::{ClusterName, Role};

    use super::super::options::HubOptions;
    use super::*;

    fn open(folder: &Path) -> Arc<Authority> {
        let options = HubOptions { state: Some(folder.to_owned()), ..HubOptions::default() };
        let config = options.resolve().unwrap();
        std::fs::create_dir_all(&config.ca).unwrap();
        let clock = TrustClock::with_source(|| WallTime(1_800_000_000_000));
        let path = config.ca.join(CA_FILE);
        if !path.exists() {
            let domain = TrustDomain::new("fleet.example").unwrap();
            Ca::create(&domain, clock.now()).unwrap().save(&path).unwrap();
        }
        let ca = Arc::new(Ca::load(&path).unwrap());
        let book = TokenBook::open(&folder.join("tokens.json"), TokenBookLimits::default()).unwrap();
        let registrar = Registrar::new(Arc::clone(&ca), book, clock.clone(), config.certificate_life);
        Authority::open(&config, ca, registrar, &clock).unwrap()
    }

    fn node(id: u128) -> Identity {
        Identity { role: Role::Node(ClusterName::new("north").unwrap()), id: MemberId(id) }
    }

    fn request(issuer: bool) -> RenewRequest {
        let request = || MemberKey::generate().unwrap().signing_request().unwrap();
        RenewRequest { signing_request: request(), issuer_request: issuer.then(request) }
    }

    fn standing(trust: u64, authority: KeyHash) -> Standing {
        Standing { trust, authority }
    }

    #[test]
    fn handover_waits_for_every_member_at_every_step_also_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let authority = open(folder.path());
        let old = authority.ca().key_hash();
        for id in [1, 2] {
            authority.certify(&node(id), &request(false)).unwrap();
        }
        assert!(authority.rotate().unwrap() && !authority.rotate().unwrap(), "one at a time");
        assert_eq!((authority.handover(), authority.trust().version()), (Handover::MadeKnown, 1));
        let mut standings =
            BTreeMap::from([(MemberId(1), standing(1, old)), (MemberId(2), standing(0, old))]);
        assert_eq!(authority.step(&standings).unwrap(), None);
        assert_eq!(authority.awaited(&standings), [node(2)]);
        assert_eq!(
            authority.step(&BTreeMap::new()).unwrap(),
            None,
            "nobody heard is nobody who has followed"
        );

        let authority = open(folder.path());
        assert_eq!(authority.awaited(&BTreeMap::new()).len(), 2, "known after a restart");
        standings.insert(MemberId(2), standing(1, old));
        assert!(authority.step(&standings).unwrap().is_some());
        let new = authority.ca().key_hash();
        assert_ne!(new, old);
        assert_eq!(authority.handover(), Handover::Reissuing);
        assert_eq!(authority.step(&standings).unwrap(), None, "all still have old certificates");

        let authority = open(folder.path());
        assert_eq!((authority.handover(), authority.ca().key_hash()), (Handover::Reissuing, new));
        standings.insert(MemberId(1), standing(2, new));
        // The other one is not coming back.
        assert!(authority.revoke(Revoked::Member(MemberId(2))).unwrap());
        assert!(authority.certify(&node(2), &request(false)).unwrap_err().contains("revoked"));
        assert!(authority.step(&standings).unwrap().is_some());
        assert_eq!(authority.handover(), Handover::None);
        let authority = open(folder.path());
        assert_eq!((authority.handover(), authority.ca().key_hash()), (Handover::None, new));
        assert_eq!(authority.trust().list().revoked, [], "the successor has certified none of them");
        assert_eq!(authority.members().len(), 1);
    }

    #[test]
    fn member_that_was_revoked_does_not_join_again_with_the_token_that_made_it_one() {
        let folder = tempfile::tempdir().unwrap();
        let authority = open(folder.path());
        let registrar = &authority.registrar;
        let token = registrar.create_token(node(1).role, std::time::Duration::from_secs(3600)).unwrap();
        let signing_request = MemberKey::generate().unwrap().signing_request().unwrap();
        let request = JoinRequest { token: token.id, secret: token.secret, signing_request };
        registrar.admit(&request).unwrap();
        let again = registrar.admit(&request).unwrap();
        let chain = [again.certificate.into()];
        let serial = ChainSummary::of(&chain).unwrap().serial;
        assert!(authority.revoke(Revoked::Certificate(serial)).unwrap());
        assert_eq!(registrar.admit(&request).unwrap_err().code, JoinRefusalCode::UsedToken);
    }

    #[test]
    fn crash_between_the_list_and_the_keys_of_a_handover_is_finished_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let authority = open(folder.path());
        let old = authority.ca();
        authority.rotate().unwrap();
        authority.step(&BTreeMap::new()).unwrap();
        let new = authority.ca();
        let ca_folder = folder.path().join("ca");
        // As if it had died right after the list was written.
        new.save(&ca_folder.join(NEXT_FILE)).unwrap();
        old.save(&ca_folder.join(CA_FILE)).unwrap();
        let authority = open(folder.path());
        assert_eq!(authority.ca().key_hash(), new.key_hash());
        assert!(!ca_folder.join(NEXT_FILE).exists());
        assert_eq!(Ca::load(&ca_folder.join(CA_FILE)).unwrap().key_hash(), new.key_hash());
    }

    #[test]
    fn issuer_is_granted_to_the_entitled_alone() {
        let folder = tempfile::tempdir().unwrap();
        let authority = open(folder.path());
        let nobody_said = authority.certify(&node(1), &request(true)).unwrap();
        assert!(nobody_said.made_issuer.is_none());
        assert!(authority.entitled.set(Arc::new(|who: &Identity| who.id == MemberId(1))).is_ok());
        assert!(authority.certify(&node(1), &request(true)).unwrap().made_issuer.is_some());
        assert!(authority.certify(&node(2), &request(true)).unwrap().made_issuer.is_none());
        assert!(authority.certify(&node(1), &request(false)).unwrap().made_issuer.is_none());
    }
}
