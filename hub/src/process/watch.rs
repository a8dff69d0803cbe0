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
/// Whether a member is the lead of its cluster, as far as this hub has heard: it describes the cluster, under a term of
/// its own, and nobody else does under a higher one.
pub(super) fn leads_its_cluster(commons: &codeco_actors::fabric::Commons, who: &Identity) -> bool {
    let Some(cluster) = who.cluster() else { return false };
    commons.with_views(|views| {
        let speak = views.iter().filter(|view| view.identity.cluster() == Some(cluster)).filter_map(|view| {
            let fact = view.cluster()?;
            (fact.cluster == *cluster && fact.term.owner == view.identity.id)
                .then_some((fact.term, view.identity.id))
        });
        speak.max().is_some_and(|(_, lead)| lead == who.id)
    })
}
