//! Who may use the API at members that give out no tokens: hubs spread the hashes of theirs, and every member keeps them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use codeco_protocol::gossip::Fact;
use codeco_protocol::ids::MemberId;
use futures::FutureExt as _;

use super::api::ApiTokens;
use crate::process::{Member, Pace, PeriodicMessage, following_child, periodic_child};
use crate::supervision::{ChildRef, ChildSpec, Policy};

/// How often tokens are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// And at a node that hears nothing new.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Tells others where this member answers people.
pub fn spread_api(member: &Member, address: SocketAddr) {
    member.commons.publish_fact("api", Fact::Api(address));
}

/// At a hub: tells others which tokens it has given out, as that changes.
#[must_use]
pub fn tokens_child(
    member: &Arc<Member>,
    tokens: &Arc<ApiTokens>,
    policy: Policy,
) -> (ChildSpec, ChildRef<PeriodicMessage>) {
    let (member, tokens) = (Arc::clone(member), Arc::clone(tokens));
    periodic_child("tokens", policy, LOOK, move || {
        member.commons.publish_fact("api-tokens", Fact::ApiTokens(tokens.facts()));
        async { Ok(()) }.boxed()
    })
}

/// At a node: keeps what hubs tell of their tokens, each over its own connection.
#[must_use]
pub fn heard_tokens_child(
    member: &Arc<Member>,
    tokens: &Arc<ApiTokens>,
    policy: Policy,
) -> (ChildSpec, ChildRef<PeriodicMessage>) {
    let (member, tokens) = (Arc::clone(member), Arc::clone(tokens));
    let pace = Pace { least: LOOK, most: LOOK_AGAIN };
    let kept = Arc::new(Mutex::new(Vec::new()));
    following_child("tokens", policy, pace, vec![member.commons.follow_known()], move || {
        let told: Vec<(MemberId, Vec<_>)> = member.commons.with_views(|views| {
            let hubs = views.iter().filter_map(|view| Some((view.identity.id, view.api_tokens()?.to_vec())));
            hubs.collect()
        });
        let (tokens, kept) = (Arc::clone(&tokens), Arc::clone(&kept));
        async move {
            if *kept.lock().unwrap_or_else(PoisonError::into_inner) == told {
                return Ok(());
            }
            let heard = told.clone();
            let write = tokio::task::spawn_blocking(move || {
                heard.iter().try_for_each(|(hub, facts)| tokens.heard(*hub, facts))
            });
            write.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = told;
            Ok(())
        }
        .boxed()
    })
}
