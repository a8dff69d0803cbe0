//! Certificates of members as a member knows them; revocation and hand-over as the API asks for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::evidence::Note;
use crate::fabric::Commons;
use codeco_protocol::api::{
    CaView, CertState, CertView, Condition, ConditionStatus, EventType, List, RevokedView, codes,
};
use codeco_protocol::gossip::{CertificateFact, View};
use codeco_protocol::identity::{ChainSummary, KeyHash, Revoked, Serial, Trust, certificate_pem};
use codeco_protocol::ids::{Identity, MemberId};
use codeco_protocol::units::WallTime;
use serde::{Deserialize, Serialize};

use super::fleet::{MemberFleet, error};
use crate::acm::fleet::{ApiError, Filter};

/// How far a hand-over to another authority has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// There is none.
    None,
    /// The successor is made known to all.
    MadeKnown,
    /// The successor issues, and all get new certificates.
    Reissuing,
}

/// A member that was certified here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certified {
    /// Who.
    pub identity: Identity,
    /// When its last certificate from here ends.
    pub not_after: WallTime,
}

/// How far a member has followed the authority, in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Version of the list it goes by.
    pub trust: u64,
    /// The authority of its certificate.
    pub authority: KeyHash,
}

/// What an authority does for people. Writes to disk.
pub trait CertAuthority: Send + Sync + 'static {
    /// Members certified here, whether they are heard or not.
    fn members(&self) -> Vec<Certified>;
    /// Revokes; `false` if it was revoked before.
    ///
    /// # Errors
    /// Why that could not be written down, for people.
    fn revoke(&self, what: Revoked) -> Result<bool, String>;
    /// Begins a hand-over to a new authority; `false` if one is under way.
    ///
    /// # Errors
    /// Why that could not be written down, for people.
    fn rotate(&self) -> Result<bool, String>;
    /// How far a hand-over has come.
    fn handover(&self) -> Handover;
    /// Members that the next step of a hand-over waits for.
    fn awaited(&self, standings: &BTreeMap<MemberId, Standing>) -> Vec<Identity>;
}

/// What a member's own words about its certificate come to.
fn read(fact: &CertificateFact) -> Option<ChainSummary> {
    let chain: Vec<_> = fact.chain.iter().take(4).map(|der| der.as_slice().into()).collect();
    ChainSummary::of(&chain).ok()
}

fn authority_of(fact: &CertificateFact) -> Option<KeyHash> {
    fact.chain.last().and_then(|der| KeyHash::of_certificate(der).ok())
}

/// How far each member has followed the authority, in its own words.
pub fn standings(commons: &Commons) -> BTreeMap<MemberId, Standing> {
    commons.with_views(|views| {
        let told = views.iter().filter_map(|view| {
            let fact = view.certificate()?;
            Some((view.identity.id, Standing { trust: fact.trust, authority: authority_of(fact)? }))
        });
        told.collect()
    })
}

/// What is to be said of a node's identity beside its readiness.
pub(super) fn conditions(commons: &Commons, view: &View) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let mut add = |kind: &str, reason: &str, message: &str, since| {
        conditions.push(Condition {
            kind: kind.into(),
            status: ConditionStatus::True,
            reason: reason.into(),
            message: message.into(),
            last_transition_time: since,
        });
    };
    let fact = view.certificate();
    let chain = fact.and_then(read);
    let trust = commons.transport.trust();
    let revoked = trust.is_member_revoked(view.identity.id)
        || chain.as_ref().is_some_and(|chain| trust.revoked(chain).is_some());
    if revoked {
        let message = "it was revoked: nobody connects to it, and nothing of it is renewed";
        add(
            "CertificateRevoked",
            "Revoked",
            message,
            trust.list().revoked.last().map_or(WallTime(0), |r| r.at),
        );
    }
    if fact.is_some_and(|fact| fact.clock_unknown) {
        let message = "its wall clock shows a time before the last it has noted: set the clock";
        let since = view.member().map_or(WallTime(0), |member| member.started);
        add("ClockUnknown", "WallClockBehind", message, since);
    }
    conditions
}

impl MemberFleet {
    fn trust(&self) -> &Trust {
        self.member.commons.transport.trust()
    }

    /// `CLUSTER/NODE`, the name of a hub, or the identity.
    fn called(&self, identity: &Identity) -> String {
        let name = if *identity == self.member.commons.own {
            Some(self.member.name.clone())
        } else {
            let view = self.member.commons.view(identity.id);
            view.and_then(|view| view.member().map(|fact| fact.name.clone()))
        };
        match (identity.cluster(), name) {
            (Some(cluster), Some(name)) => format!("{cluster}/{name}"),
            (None, Some(name)) => name,
            (_, None) => identity.to_string().trim_start_matches('/').to_owned(),
        }
    }

    fn cert(&self, identity: &Identity, fact: &CertificateFact, now: WallTime) -> Option<CertView> {
        let chain = read(fact)?;
        let not_after = chain.validity.not_after;
        let due = now.0 + not_after.0.saturating_sub(chain.validity.not_before.0) / 3 >= not_after.0;
        let revoked = self.trust().is_member_revoked(identity.id) || self.trust().revoked(&chain).is_some();
        let state = match () {
            () if revoked => CertState::Revoked,
            () if not_after < now => CertState::Expired,
            () if due => CertState::Due,
            () => CertState::Valid,
        };
        let holder = |holder: MemberId| {
            let role = identity.role.clone();
            self.called(&Identity { role, id: holder })
        };
        Some(CertView {
            member: self.called(identity),
            id: identity.id,
            serial: Some(chain.serial.to_string()),
            issuer: chain.issuer.map_or("authority".to_owned(), |by| holder(by.holder)),
            authority: authority_of(fact).map(|hash| hash.to_string()),
            not_after,
            state,
            renewals: fact.renewals,
            renewed: fact.renewed,
            issues_until: fact.issuer.map(|(_, until)| until),
            clock_unknown: fact.clock_unknown,
            trust: fact.trust,
        })
    }

    /// All certificates known, by member.
    pub(super) fn certs_now(&self, filter: &Filter) -> List<CertView> {
        let (commons, now) = (&self.member.commons, self.member.commons.transport.clock().now());
        let mut told: BTreeMap<MemberId, CertView> = BTreeMap::new();
        let views: Vec<(Identity, CertificateFact)> = commons.with_views(|views| {
            views.iter().filter_map(|v| Some((v.identity.clone(), v.certificate()?.clone()))).collect()
        });
        let mut identities: BTreeMap<MemberId, Identity> = BTreeMap::new();
        for (identity, fact) in &views {
            identities.insert(identity.id, identity.clone());
            told.extend(self.cert(identity, fact, now).map(|cert| (identity.id, cert)));
        }
        for known in self.authority.as_ref().map(|authority| authority.members()).unwrap_or_default() {
            let id = known.identity.id;
            identities.entry(id).or_insert_with(|| known.identity.clone());
            let state =
                if self.trust().is_member_revoked(id) { CertState::Revoked } else { CertState::Unknown };
            told.entry(id).or_insert_with(|| CertView {
                member: self.called(&known.identity),
                id,
                serial: None,
                issuer: "authority".to_owned(),
                authority: None,
                not_after: known.not_after,
                state,
                renewals: 0,
                renewed: None,
                issues_until: None,
                clock_unknown: false,
                trust: 0,
            });
        }
        let own = commons.own.clone();
        let credentials = commons.transport.credentials();
        let fact = CertificateFact {
            chain: credentials.chain().iter().map(|der| der.to_vec()).collect(),
            renewals: 0,
            renewed: None,
            issuer: None,
            clock_unknown: commons.transport.clock().is_behind(),
            trust: self.trust().version(),
        };
        told.extend(self.cert(&own, &fact, now).map(|cert| (own.id, cert)));
        let mut certs: Vec<CertView> = told.into_values().collect();
        certs.retain(|cert| {
            let of = identities.get(&cert.id).and_then(Identity::cluster);
            filter.cluster.as_ref().is_none_or(|cluster| of == Some(cluster))
                && filter.node.as_ref().is_none_or(|node| cert.member.ends_with(&format!("/{node}")))
        });
        certs.sort_by(|a, b| (&a.member, a.id).cmp(&(&b.member, b.id)));
        List::new("Cert", certs)
    }

    /// What people mean: a member, by name or id, or a certificate, by serial number.
    fn target(&self, target: &str) -> Result<(Revoked, String), ApiError> {
        let certs = self.certs_now(&Filter::default()).items;
        let own = self.member.commons.own.id;
        let by_name: Vec<&CertView> =
            certs.iter().filter(|cert| cert.member == target || cert.id.to_string() == target).collect();
        let not_own = |id: MemberId| {
            if id != own {
                return Ok(());
            }
            let message = "the hub that is asked does not revoke itself".to_owned();
            let next = "to replace its authority, use `codeco ca rotate`; nothing was revoked";
            Err(error(422, codes::INVALID_REQUEST, Some(target.into()), message, next))
        };
        match by_name.as_slice() {
            [cert] => {
                not_own(cert.id)?;
                return Ok((Revoked::Member(cert.id), format!("member {} ({})", cert.member, cert.id)));
            }
            [] => {}
            _ => {
                let ids: Vec<String> = by_name.iter().map(|cert| cert.id.to_string()).collect();
                let message = format!("{target} names {} members: {}", ids.len(), ids.join(", "));
                let next = "revoke by id; nothing was revoked";
                return Err(error(409, codes::INVALID_REQUEST, Some(target.into()), message, next));
            }
        }
        if let Ok(serial) = target.parse::<Serial>() {
            let owner = certs.iter().find(|cert| cert.serial.as_deref() == Some(target));
            if let Some(owner) = owner {
                not_own(owner.id)?;
            }
            let whose = owner.map_or(String::new(), |cert| format!(" of {}", cert.member));
            return Ok((Revoked::Certificate(serial), format!("certificate {serial}{whose}")));
        }
        let message = format!("no member and no certificate {target} is known here");
        let next =
            "`codeco get certs -o wide` lists members, ids and serial numbers; write a node as CLUSTER/NODE";
        Err(error(404, codes::CERT_NOT_FOUND, Some(target.into()), message, next))
    }

    pub(super) fn revoke_target(&self, target: &str) -> Result<RevokedView, ApiError> {
        let authority = self.an_authority()?;
        let (what, words) = self.target(target)?;
        let revoked = tokio::task::block_in_place(|| authority.revoke(what));
        let new = revoked.map_err(|e| self.unavailable(e))?;
        if new {
            self.member.events.tell(Note {
                kind: EventType::Warning,
                reason: "Revoked",
                object_kind: "Member",
                object: target.to_owned(),
                message: format!("{words} is revoked; every member is told"),
            });
        }
        Ok(RevokedView { what: words, before: !new, trust: self.trust().version() })
    }

    fn an_authority(&self) -> Result<&Arc<dyn CertAuthority>, ApiError> {
        self.authority.as_ref().ok_or_else(|| {
            let message = format!("{} is no authority", self.member.name);
            error(
                409,
                codes::CA_UNAVAILABLE,
                Some(self.member.name.clone()),
                message,
                "ask a hub; nothing was done",
            )
        })
    }

    fn unavailable(&self, detail: String) -> ApiError {
        let next = "see that the authority's folder can be written, and ask again";
        error(503, codes::CA_UNAVAILABLE, Some(self.member.name.clone()), detail, next)
    }

    pub(super) fn begin_handover(&self) -> Result<CaView, ApiError> {
        let authority = self.an_authority()?;
        let begun = tokio::task::block_in_place(|| authority.rotate());
        if begun.map_err(|e| self.unavailable(e))? {
            self.member.events.tell(Note {
                kind: EventType::Normal,
                reason: "AuthorityHandover",
                object_kind: "Member",
                object: self.member.name.clone(),
                message: "a new authority is made known to all members; both are trusted".into(),
            });
        }
        Ok(self.ca_now())
    }

    pub(super) fn ca_now(&self) -> CaView {
        let list = self.trust().list();
        let told = standings(&self.member.commons);
        let authority = self.authority.as_ref();
        let awaited = authority.map(|authority| authority.awaited(&told)).unwrap_or_default();
        let handover = authority.map_or(Handover::None, |authority| authority.handover());
        let hashes = list.roots.iter().filter_map(|der| KeyHash::of_certificate(der).ok());
        CaView {
            authority: list.active.to_string(),
            trusted: hashes.map(|hash| hash.to_string()).collect(),
            certificates: list.roots.iter().map(|der| certificate_pem(der)).collect(),
            handover: match handover {
                Handover::None => "none",
                Handover::MadeKnown => "madeKnown",
                Handover::Reissuing => "reissuing",
            }
            .to_owned(),
            awaited: awaited.iter().map(|identity| self.called(identity)).collect(),
            trust: list.version,
            revocations: u32::try_from(list.revoked.len()).unwrap_or(u32::MAX),
        }
    }
}
