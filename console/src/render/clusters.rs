//! Clusters in a table.

use codeco_protocol::api::{ClusterStatus, ClusterView, ConditionStatus, ElectorateView};
use codeco_protocol::units::WallTime;

use super::numbers::age;
use super::{Cell, Column, Row, Tone};

/// The voters by name; those that do not answer are marked.
pub(crate) fn voters(electorate: &ElectorateView) -> String {
    let voters = electorate.voters.iter().map(|voter| {
        let role = if voter.witness { " (witness)" } else { "" };
        let state = if voter.answers { "" } else { " (silent)" };
        format!("{}{role}{state}", voter.node)
    });
    voters.collect::<Vec<_>>().join(", ")
}

/// How a cluster stands, and the conditions that hold about it, as in `Degraded,Braked`.
pub(crate) fn status(cluster: &ClusterView) -> String {
    let holding = cluster.conditions.iter().filter(|condition| condition.status == ConditionStatus::True);
    let words = std::iter::once(format!("{:?}", cluster.status)).chain(holding.map(|c| c.kind.clone()));
    words.collect::<Vec<_>>().join(",")
}

impl Row for ClusterView {
    const PATH: &'static str = "clusters";
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("STATUS"),
        Column::new("NODES"),
        Column::new("LEAD"),
        Column::new("TERM"),
        Column::new("CPU-FREE"),
        Column::new("MEMORY-FREE"),
        Column::new("REPLICAS"),
        Column::new("SEEN").volatile(),
        Column::wide("CPU"),
        Column::wide("MEMORY"),
        Column::wide("VOTERS"),
    ];

    fn cells(&self, _: WallTime) -> Vec<Cell> {
        let tone = match self.status {
            ClusterStatus::Ready => Tone::Good,
            ClusterStatus::Degraded => Tone::Busy,
            ClusterStatus::NoLead | ClusterStatus::Unknown => Tone::Bad,
        };
        vec![
            Cell::new(&self.name),
            Cell::toned(status(self), tone),
            Cell::new(format!("{}/{}", self.nodes_ready, self.nodes)),
            Cell::maybe(self.lead.as_ref()),
            Cell::new(self.term),
            Cell::new(self.free.cpu),
            Cell::new(self.free.memory),
            Cell::new(self.replicas),
            Cell::new(age(self.age_ms)),
            Cell::new(self.capacity.cpu),
            Cell::new(self.capacity.memory),
            Cell::maybe(self.electorate.as_ref().map(voters).as_ref()),
        ]
    }

    fn is_called(&self, name: &str) -> bool {
        self.name.as_str() == name
    }
}
