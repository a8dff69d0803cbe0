//! Replicas in a table.

use codeco_protocol::api::{ReplicaPhase, ReplicaView};
use codeco_protocol::units::WallTime;

use super::numbers::{age, since};
use super::{Cell, Column, Row, Tone};

/// `app/service-index`: how people call a replica.
pub(crate) fn replica_name(replica: &ReplicaView) -> String {
    format!("{}/{}-{}", replica.app, replica.service, replica.index)
}

impl Row for ReplicaView {
    const PATH: &'static str = "replicas";
    const COLUMNS: &'static [Column] = &[
        Column::namespace(),
        Column::new("NAME"),
        Column::new("READY"),
        Column::new("STATUS"),
        Column::new("RESTARTS"),
        Column::new("CLUSTER"),
        Column::new("NODE"),
        Column::new("AGE").volatile(),
        Column::wide("TOKEN"),
        Column::wide("PID"),
        Column::wide("SEEN").volatile(),
        Column::wide("DECISION"),
        Column::wide("MESSAGE"),
    ];

    fn cells(&self, now: WallTime) -> Vec<Cell> {
        let (mut phase, mut tone) = (format!("{:?}", self.phase), phase_tone(self.phase));
        if self.stale {
            // It tells the past: never shown as if it were so now.
            phase.push_str(" (stale)");
            tone = Tone::Bad;
        }
        vec![
            Cell::new(&self.namespace),
            Cell::new(replica_name(self)),
            Cell::new(if self.ready { "yes" } else { "no" }),
            Cell::toned(phase, tone),
            Cell::new(self.restarts),
            Cell::maybe(self.cluster.as_ref()),
            Cell::maybe(self.node.as_ref()),
            Cell::new(since(self.since, now)),
            Cell::maybe(self.token.as_ref()),
            Cell::maybe(self.pid.as_ref()),
            Cell::new(age(self.age_ms)),
            Cell::maybe(self.decision.as_ref()),
            Cell::new(&self.message),
        ]
    }

    /// `app`, `app/service`, `app/service-index` or `service-index`.
    fn is_called(&self, name: &str) -> bool {
        let full = replica_name(self);
        let service = format!("{}/{}", self.app, self.service);
        let short = format!("{}-{}", self.service, self.index);
        [full.as_str(), &service, &short, self.app.as_str()].contains(&name)
    }
}

fn phase_tone(phase: ReplicaPhase) -> Tone {
    match phase {
        ReplicaPhase::Running => Tone::Good,
        ReplicaPhase::Pending | ReplicaPhase::Reserving | ReplicaPhase::Starting | ReplicaPhase::Stopping => {
            Tone::Busy
        }
        ReplicaPhase::Finished => Tone::Plain,
        ReplicaPhase::Failed | ReplicaPhase::Lost | ReplicaPhase::Unknown => Tone::Bad,
    }
}
