//! The hub's eye on the fleet.

use std::net::SocketAddr;
use std::sync::Arc;

use codeco_actors::evidence::Note;
use codeco_actors::fabric::Watcher;
use codeco_actors::process::Member;
use codeco_protocol::api::EventType;
use codeco_protocol::gossip::Liveness;
use codeco_protocol::ids::{Identity, MemberId};

pub(super) struct HubWatcher {
    pub(super) member: Arc<Member>,
}

impl Watcher for HubWatcher {
    fn lead(&self) -> Option<MemberId> {
        None
    }

    fn changed(&self, member: &Identity, liveness: Liveness) {
        let kind = match liveness {
            Liveness::Alive | Liveness::Left => EventType::Normal,
            Liveness::Suspect | Liveness::Dead => EventType::Warning,
        };
        let name = self.member.commons.view(member.id).and_then(|view| view.member().map(|f| f.name.clone()));
        let object = match (member.cluster(), name) {
            (Some(cluster), Some(name)) => format!("{cluster}/{name}"),
            (None, Some(name)) => name,
            (_, None) => member.to_string().trim_start_matches('/').to_owned(),
        };
        let message = format!("is {liveness:?} as seen from {}", self.member.name).to_lowercase();
        self.member.events.tell(Note {
            kind,
            reason: "MemberChanged",
            object_kind: "Member",
            object,
            message,
        });
    }

    fn cut_off(&self, _: bool) {}

    fn peers_known(&self, _: Vec<SocketAddr>) {}
}
