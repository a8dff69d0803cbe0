//! Follows ractor_cluster's handshakes: checks names, finds facades, notices ends.

use std::sync::Arc;

use codeco_protocol::ids::Identity;
use ractor::{ActorCell, ActorId};
use ractor_cluster::NodeEventSubscription;
use ractor_cluster::node::NodeServerSessionInformation;

use super::sessions::{Event, Shared};
use super::table::{DownReason, Session};

/// Longest claimed name kept, in characters.
const CLAIMED_LEN_MAX: usize = 200;

/// Node name and host name for the handshake, which ractor_cluster joins with an `@`. The host name is unique so
/// that two processes on two machines with the same loopback port do not look like one to each other.
pub(super) fn node_and_host(identity: &Identity) -> (String, String) {
    (identity.to_string(), identity.id.to_string())
}

fn handshake_name(identity: &Identity) -> String {
    let (node, host) = node_and_host(identity);
    format!("{node}@{host}")
}

/// The process group that a process's facade joins.
pub(super) fn facade_group(identity: &Identity) -> String {
    format!("codeco-facade{identity}")
}

/// Called by the node server, in its own task and in the order of events; must not block.
pub(super) struct Handshakes(pub(super) Arc<Shared>);

impl Handshakes {
    /// The session of ours that this is; anything else came through the loopback listener and is turned away.
    fn session(&self, info: &NodeServerSessionInformation) -> Option<Arc<Session>> {
        self.0.table.by_label(&info.peer_addr)
    }
}

impl NodeEventSubscription for Handshakes {
    fn node_session_opened(&self, info: NodeServerSessionInformation) {
        if let Some(session) = self.session(&info) {
            session.set_actor(info.actor);
        } else {
            self.0.counters.sessions_uninvited.add_one();
            info.actor.stop(Some("not attached".to_owned()));
        }
    }

    /// Runs before the peer can learn that the session is ready, so no honest request comes before it.
    fn node_session_authenticated(&self, info: NodeServerSessionInformation) {
        let Some(session) = self.session(&info) else {
            info.actor.stop(Some("not attached".to_owned()));
            return;
        };
        let claimed = info.peer_name.map(|name| name.name).unwrap_or_default();
        let certified = handshake_name(&session.identity);
        if claimed == certified {
            session.set_named();
        } else {
            self.0.counters.sessions_wrong_name.add_one();
            let claimed = claimed.chars().take(CLAIMED_LEN_MAX).collect();
            self.0.end(&session, DownReason::WrongName { claimed, certified });
        }
    }

    /// The peer sends its groups before it says that it is ready, so its facade is known by now.
    fn node_session_ready(&self, info: NodeServerSessionInformation) {
        let Some(session) = self.session(&info) else { return };
        match find_facade(&session.identity, info.node_id) {
            Some(facade) => {
                if session.set_up(facade) {
                    self.0.tell(Event::Up(session.identity.clone()));
                }
            }
            None => self.0.end(&session, DownReason::NoFacade),
        }
    }

    fn node_session_disconnected(&self, info: NodeServerSessionInformation) {
        if let Some(session) = self.session(&info) {
            self.0.end(&session, DownReason::Lost);
        }
    }
}

/// Any peer may put any of its actors into any group, so only actors behind this very session count.
fn find_facade(identity: &Identity, node_id: ractor_cluster::NodeId) -> Option<ActorCell> {
    let is_theirs =
        |cell: &ActorCell| matches!(cell.get_id(), ActorId::Remote { node_id: id, .. } if id == node_id);
    ractor::pg::get_members(&facade_group(identity)).into_iter().find(is_theirs)
}
