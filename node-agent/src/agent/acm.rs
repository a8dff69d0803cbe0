//! Advanced Cluster Management on a node: the home of applications given to it, and its API.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use codeco_actors::acm::access::{heard_tokens_child, spread_api};
use codeco_actors::acm::answers::MemberFleet;
use codeco_actors::acm::api::{ApiTokens, Refusals};
use codeco_actors::acm::clusters::{cluster_facts, keepers, others};
use codeco_actors::acm::home::{HomeEffects, HomeRef, restore_home};
use codeco_actors::acm::serve::serve_api;
use codeco_actors::clock::boot_now;
use codeco_actors::process::{Faults, Member, Pace, following_child};
use codeco_actors::supervision::{ChildSpec, Policy};
use codeco_actors::swm::actor::{CoreMessage, core_child};
use codeco_actors::swm::home::HomeInput;
use futures::FutureExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::AgentError;
use super::options::AgentConfig;

/// Name of the file with the hashes of API tokens that hubs have given out.
const TOKENS_FILE: &str = "hub-tokens.json";

/// The API tokens this node has heard of.
pub(super) fn tokens(state: &Path) -> Result<Arc<ApiTokens>, AgentError> {
    let path = state.join(TOKENS_FILE);
    let opened = ApiTokens::open_heard(&path);
    opened
        .map(Arc::new)
        .map_err(|e| AgentError::State { path: path.display().to_string(), detail: e.to_string() })
}

/// The home of applications, its view of clusters, and the tokens, as supervised children.
pub(super) fn children(
    config: &AgentConfig,
    member: &Arc<Member>,
    tokens: &Arc<ApiTokens>,
    seed: u64,
    policy: Policy,
) -> (Vec<ChildSpec>, HomeRef) {
    let effects = Arc::new(HomeEffects::new(Arc::clone(member)));
    let restore = restore_home(&config.state, member, seed);
    let post = Arc::clone(&member.commons.post);
    let (home, home_ref) = core_child("home", policy, restore, post, effects);
    let (clusters, _) = {
        let (member, home) = (Arc::clone(member), home_ref.clone());
        let pace = Pace { least: Duration::from_millis(100), most: Duration::from_secs(1) };
        let follows = vec![member.commons.follow_known(), member.commons.sessions.follow()];
        following_child("clusters", policy, pace, follows, move || {
            let facts = cluster_facts(&member.commons, boot_now());
            // A home that is being restarted hears of the clusters next time.
            let _ = home.try_send(CoreMessage::Input(HomeInput::Clusters(facts)));
            let _ = home.try_send(CoreMessage::Input(HomeInput::Keepers(keepers(&member.commons))));
            let _ = home.try_send(CoreMessage::Input(HomeInput::Others(others(&member.commons))));
            async { Ok(()) }.boxed()
        })
    };
    let (heard, _) = heard_tokens_child(member, tokens, policy);
    (vec![home, clusters, heard], home_ref)
}

/// Answers people, if this node is to.
pub(super) async fn serve(
    config: &AgentConfig,
    member: &Arc<Member>,
    home: HomeRef,
    faults: Faults,
    tokens: Arc<ApiTokens>,
    stop: watch::Receiver<bool>,
) -> Result<Option<(JoinHandle<()>, Arc<Refusals>)>, AgentError> {
    let Some(address) = config.api else { return Ok(None) };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| AgentError::Api { address, detail: source.to_string() })?;
    spread_api(member, listener.local_addr().unwrap_or(address));
    let slot = member.commons.transport.credentials_slot();
    let fleet =
        Arc::new(MemberFleet { member: Arc::clone(member), home, registrar: None, faults, authority: None });
    serve_api(member, listener, slot, fleet, tokens, stop)
        .map(Some)
        .map_err(|e| AgentError::Api { address, detail: e.to_string() })
}
