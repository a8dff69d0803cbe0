//! What this member reaches through relays, and what it does not reach for want of one: for `explain` and `doctor`.

use std::collections::BTreeSet;

use codeco_protocol::api::{CheckView, Verdict};
use codeco_protocol::ids::ClusterName;

use super::Member;
use crate::netma::name_of;

/// Names in one sentence at most.
const NAMES_MAX: usize = 8;

/// How a member stands with those it cannot dial.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    own_cluster: Option<ClusterName>,
    dial_out_only: bool,
    /// Connected members that relay for it.
    relays: Vec<String>,
    /// Members connected through a relay, and that relay.
    relayed: Vec<(String, String)>,
    /// Other clusters of which a member is connected.
    others: BTreeSet<ClusterName>,
}

impl Reach {
    /// At this moment.
    #[must_use]
    pub fn of(member: &Member) -> Self {
        let commons = &member.commons;
        let own_cluster = commons.own.cluster().cloned();
        let mut reach = Self { own_cluster, dial_out_only: member.dial_out_only, ..Self::default() };
        reach.relays = commons.relays().into_iter().map(|relay| name_of(commons, relay)).collect();
        for (id, linked) in commons.links().iter() {
            if let Some(relay) = commons.via(&linked.connection) {
                reach.relayed.push((name_of(commons, *id), name_of(commons, relay)));
            }
            let cluster = linked.connection.identity().cluster();
            reach
                .others
                .extend(cluster.filter(|cluster| Some(*cluster) != reach.own_cluster.as_ref()).cloned());
        }
        reach
    }

    /// What is to be said of a member that can only dial out and has no relay.
    #[must_use]
    pub fn alone(&self) -> Option<String> {
        let own = self.own_cluster.as_ref()?;
        // The lead of its own cluster may relay within it, and knows no more of others.
        let within = format!("{own}/");
        if !self.dial_out_only || self.relays.iter().any(|relay| !relay.starts_with(&within)) {
            return None;
        }
        let reached = if self.others.is_empty() {
            format!("its own cluster {own}")
        } else {
            format!(
                "its own cluster {own}, and of the others those it has dialled itself: {}",
                listed(&self.others)
            )
        };
        Some(format!(
            "this member can only dial out and is connected to no hub or other relay: it reaches just {reached}; clusters \
             that can only dial out too are not looked at. Start a hub that it is told with --hub, or name a relay with \
             --relay"
        ))
    }

    /// The same as a check-up; `None` where nothing is relayed and nothing needs to be.
    #[must_use]
    pub fn check(&self) -> Option<CheckView> {
        if !self.dial_out_only && self.relayed.is_empty() {
            return None;
        }
        let did = "looked at which connections go through relays";
        if let Some(alone) = self.alone() {
            let check = CheckView::new("relays", Verdict::Warning, did, alone);
            return Some(check.next("start a hub that it is told with --hub, or name a relay with --relay"));
        }
        let found = if self.relayed.is_empty() {
            format!("none does; {} would relay", listed(&self.relays))
        } else {
            let via = self.relayed.iter().map(|(peer, relay)| format!("{peer} via {relay}"));
            listed(&via.collect::<Vec<_>>())
        };
        Some(CheckView::new("relays", Verdict::Ok, did, found))
    }
}

fn listed<'a, T: std::fmt::Display + 'a>(names: impl IntoIterator<Item = &'a T>) -> String {
    let names: Vec<String> = names.into_iter().map(ToString::to_string).collect();
    match names.len() {
        0 => "nobody".into(),
        more if more > NAMES_MAX => {
            format!("{} and {} more", names[..NAMES_MAX].join(", "), more - NAMES_MAX)
        }
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str) -> ClusterName {
        ClusterName::new(name).unwrap()
    }

    #[test]
    fn member_that_can_only_dial_out_and_has_no_relay_is_said_to_reach_its_own_cluster() {
        let mut reach = Reach { own_cluster: Some(cluster("west")), dial_out_only: true, ..Reach::default() };
        let said = reach.alone().unwrap();
        assert!(said.contains("reaches just its own cluster west;") && said.contains("--relay"), "{said}");
        assert_eq!(reach.check().unwrap().verdict, Verdict::Warning);
        reach.relays = vec!["west/lead".into()];
        assert!(reach.alone().is_some(), "its lead relays within the cluster alone");
        reach.others.insert(cluster("east"));
        assert!(reach.alone().unwrap().contains("dialled itself: east"));
        reach.relays.push("hub-1".into());
        assert_eq!(reach.alone(), None);
        reach.relays.clear();
        reach.dial_out_only = false;
        assert_eq!(reach.alone(), None, "others may dial it");
    }

    #[test]
    fn check_up_names_relayed_members_and_their_relays_and_is_left_out_where_nothing_is_relayed() {
        let mut reach = Reach { own_cluster: Some(cluster("west")), ..Reach::default() };
        assert_eq!(reach.check(), None);
        reach.relays = vec!["hub-1".into()];
        reach.relayed = (0..9).map(|n| (format!("east/n{n}"), "hub-1".into())).collect();
        let check = reach.check().unwrap();
        assert_eq!(check.verdict, Verdict::Ok);
        assert!(check.found.starts_with("east/n0 via hub-1, ") && check.found.ends_with(" and 1 more"));
        reach.relayed.clear();
        reach.dial_out_only = true;
        assert_eq!(reach.check().unwrap().found, "none does; hub-1 would relay");
    }
}
