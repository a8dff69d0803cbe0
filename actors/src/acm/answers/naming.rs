//! Names that are clear in the whole fleet. A node speaks of itself and its cluster by short names; people read answers
//! of many clusters side by side.

use codeco_protocol::api::{ActorView, DecisionLevel, DecisionView, EventView, LinkView};
use codeco_protocol::ids::ClusterName;

/// Something that a node has told.
pub(super) trait Told {
    /// Makes its names clear: `node` of `cluster` has told it.
    fn told_by(&mut self, cluster: &ClusterName, node: &str);
}

impl Told for ActorView {
    fn told_by(&mut self, cluster: &ClusterName, node: &str) {
        self.member = format!("{cluster}/{node}");
    }
}

impl Told for LinkView {
    fn told_by(&mut self, cluster: &ClusterName, node: &str) {
        self.from = format!("{cluster}/{node}");
    }
}

impl Told for EventView {
    fn told_by(&mut self, cluster: &ClusterName, node: &str) {
        self.member = format!("{cluster}/{node}");
        if self.object.kind == "Node" {
            qualify(&mut self.object.name, cluster);
        }
    }
}

impl Told for DecisionView {
    fn told_by(&mut self, cluster: &ClusterName, _: &str) {
        if self.level != DecisionLevel::Node {
            return;
        }
        let of_filters = self.filters.iter_mut().flat_map(|filter| &mut filter.candidates);
        let of_candidates = self.candidates.iter_mut().map(|candidate| &mut candidate.name);
        let names = of_candidates.chain(of_filters).chain(&mut self.chosen).chain(&mut self.runner_up);
        names.for_each(|name| qualify(name, cluster));
    }
}

/// The name of a node as `CLUSTER/NODE`. A node's name has no slash of its own.
fn qualify(name: &mut String, cluster: &ClusterName) {
    if !name.contains('/') {
        *name = format!("{cluster}/{name}");
    }
}

#[cfg(test)]
mod tests {
    use codeco_protocol::api::{EventObject, EventType};
    use codeco_protocol::units::WallTime;

    use super::*;

    fn event(kind: &str, name: &str) -> EventView {
        EventView {
            at: WallTime(0),
            kind: EventType::Normal,
            reason: "NodeJoined".into(),
            object: EventObject { kind: kind.into(), name: name.into() },
            member: "node-1".into(),
            message: String::new(),
            count: 1,
            first_at: WallTime(0),
        }
    }

    #[test]
    fn event_of_a_node_names_nodes_by_cluster_once_and_leaves_other_objects_alone() {
        let cluster = ClusterName::new("edge-1").unwrap();
        for (kind, name, expected) in [
            ("Node", "node-2", "edge-1/node-2"),
            ("Node", "edge-1/node-2", "edge-1/node-2"),
            ("Replica", "web/origin-0", "web/origin-0"),
            ("Cluster", "edge-1", "edge-1"),
        ] {
            let mut told = event(kind, name);
            told.told_by(&cluster, "node-1");
            assert_eq!((told.object.name.as_str(), told.member.as_str()), (expected, "edge-1/node-1"));
        }
    }
}
