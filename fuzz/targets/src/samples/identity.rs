//! Keys and certificates. They are made anew in each process: nobody can seed a key.

use std::sync::OnceLock;
use std::time::Duration;

use codeco_protocol::identity::{
    Ca, JoinGrant, JoinRefusal, JoinRefusalCode, JoinReply, JoinRequest, JoinToken, MemberKey, RenewGrant,
    RenewReply, RenewRequest, Revocation, Revoked, SignedTrust, TokenBook, TokenBookLimits, Trust,
    TrustDomain, TrustList, Validity,
};
use codeco_protocol::ids::Role;
use codeco_protocol::units::WallTime;

use super::{OWN, cluster, node};

/// The trust domain.
pub(crate) const DOMAIN: &str = "fleet.example";

/// When everything was issued.
const NOW: WallTime = WallTime(1_800_000_000_000);

struct Made {
    key: MemberKey,
    ca: Ca,
    chain: Vec<Vec<u8>>,
    token: JoinToken,
    trust: SignedTrust,
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| make().unwrap_or_else(|error| panic!("no samples without keys: {error}")))
}

fn make() -> Result<Made, Box<dyn std::error::Error>> {
    let key = MemberKey::generate()?;
    let ca = Ca::create(&TrustDomain::new(DOMAIN)?, NOW)?;
    let validity = Validity::starting(NOW, Duration::from_secs(86_400));
    let request = key.signing_request()?;
    let own = ca.issue(&request, &node(1), validity)?;
    let issuer = ca.issue_for_cluster(&request, &cluster("c"), OWN, validity)?;
    let chain = vec![own.der.clone(), issuer, ca.certificate().to_vec()];
    let folder = std::env::temp_dir().join(format!("codeco-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut book = TokenBook::open(&folder.join("tokens"), TokenBookLimits::default())?;
    let scope = Role::Node(cluster("north"));
    let token = book.create(scope, ca.key_hash(), NOW, Duration::from_secs(60))?;
    std::fs::remove_dir_all(&folder)?;
    let list = TrustList {
        trust_domain: DOMAIN.to_owned(),
        version: 3,
        roots: vec![ca.certificate().to_vec()],
        active: ca.key_hash(),
        revoked: vec![Revocation { what: Revoked::Member(OWN), at: NOW }],
    };
    let trust = SignedTrust::sign(&list, &[&ca])?;
    Ok(Made { key, ca, chain, token, trust })
}

pub(crate) fn key() -> &'static MemberKey {
    &made().key
}

/// A member's certificate, that of its cluster's issuer, and the authority's.
pub(crate) fn chain() -> Vec<Vec<u8>> {
    made().chain.clone()
}

pub(crate) fn join_token() -> JoinToken {
    made().token.clone()
}

pub(crate) fn join_request() -> JoinRequest {
    let JoinToken { id, secret, .. } = join_token();
    JoinRequest { token: id, secret, signing_request: key().signing_request().unwrap_or_default() }
}

pub(crate) fn join_replies() -> Vec<JoinReply> {
    let chain = chain();
    let grant =
        || JoinGrant { trust_domain: DOMAIN.to_owned(), certificate: chain[0].clone(), ca: chain[2].clone() };
    let refusal = JoinRefusal { code: JoinRefusalCode::UsedToken, detail: "no".to_owned() };
    vec![JoinReply::Granted(grant()), JoinReply::Founder(grant()), JoinReply::Refused(refusal)]
}

pub(crate) fn renew_request() -> RenewRequest {
    let signing_request = key().signing_request().unwrap_or_default();
    RenewRequest { issuer_request: Some(signing_request.clone()), signing_request }
}

pub(crate) fn renew_replies() -> Vec<RenewReply> {
    let chain = chain();
    let grant = RenewGrant {
        certificate: chain[0].clone(),
        issuer: None,
        ca: chain[2].clone(),
        made_issuer: Some(chain[1].clone()),
        life_ms: 86_400_000,
        trust: Some(signed_trust().clone()),
    };
    vec![RenewReply::Granted(Box::new(grant)), RenewReply::Refused("no".to_owned())]
}

/// Trust in the one authority of the samples.
pub(crate) fn trust() -> Trust {
    let ca = &made().ca;
    Trust::in_authority(ca.trust_domain(), ca.certificate(), ca.key_hash())
        .unwrap_or_else(|error| panic!("the samples' authority: {error}"))
}

pub(crate) fn signed_trust() -> &'static SignedTrust {
    &made().trust
}
