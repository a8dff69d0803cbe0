//! Nodes in a table.

use codeco_protocol::api::{ConditionStatus, NodeStatus, NodeView};
use codeco_protocol::units::WallTime;

use super::numbers::age;
use super::{Cell, Column, Row, Tone};

/// The status, and what is wrong with the identity, as kubectl says `Ready,SchedulingDisabled`.
fn status(node: &NodeView) -> String {
    let flags = ["CertificateExpired", "CertificateRevoked", "ClockUnknown"];
    let raised =
        |flag: &&str| node.conditions.iter().any(|c| c.kind == **flag && c.status == ConditionStatus::True);
    let mut words = vec![format!("{:?}", node.status)];
    words.extend(flags.iter().filter(|flag| raised(flag)).map(|flag| (*flag).to_owned()));
    words.join(",")
}

impl Row for NodeView {
    const PATH: &'static str = "nodes";
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("CLUSTER"),
        Column::new("STATUS"),
        Column::new("ROLE"),
        Column::new("CPU"),
        Column::new("MEMORY"),
        Column::new("REPLICAS"),
        Column::new("VERSION"),
        Column::new("SEEN").volatile(),
        Column::wide("ADDRESS"),
        Column::wide("CERTIFICATE").volatile(),
        Column::wide("ID"),
        Column::wide("INCARNATION"),
        Column::wide("LABELS"),
    ];

    fn cells(&self, now: WallTime) -> Vec<Cell> {
        let tone = match self.status {
            NodeStatus::Ready => Tone::Good,
            NodeStatus::Joining => Tone::Busy,
            NodeStatus::NotReady | NodeStatus::CutOff | NodeStatus::Unknown => Tone::Bad,
        };
        let expires = self.certificate_expires.map(|at| match at.0.checked_sub(now.0) {
            Some(left) => format!("{} left", age(left)),
            None => "expired".to_owned(),
        });
        let labels: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        vec![
            Cell::new(&self.name),
            Cell::new(&self.cluster),
            Cell::toned(status(self), tone),
            Cell::new(if self.lead { "lead" } else { "" }),
            Cell::new(format!("{}/{}", self.used.cpu, self.capacity.cpu)),
            Cell::new(format!("{}/{}", self.used.memory, self.capacity.memory)),
            Cell::new(self.replicas),
            Cell::new(&self.version),
            Cell::new(age(self.age_ms)),
            Cell::maybe(self.address.as_ref()),
            Cell::maybe(expires.as_ref()),
            Cell::new(self.id),
            Cell::maybe(self.incarnation.as_ref()),
            Cell::new(labels.join(",")),
        ]
    }

    /// `node` or `cluster/node`.
    fn is_called(&self, name: &str) -> bool {
        self.name.as_str() == name || format!("{}/{}", self.cluster, self.name) == name
    }
}
