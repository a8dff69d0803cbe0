//! Applications in a table.

use codeco_protocol::api::{AppPhase, AppView};
use codeco_protocol::units::WallTime;

use super::numbers::since;
use super::{Cell, Column, Row, Tone};

impl Row for AppView {
    const PATH: &'static str = "apps";
    const COLUMNS: &'static [Column] = &[
        Column::namespace(),
        Column::new("NAME"),
        Column::new("STATUS"),
        Column::new("READY"),
        Column::new("CLUSTERS"),
        Column::new("PROFILE"),
        Column::new("AGE").volatile(),
        Column::wide("GENERATION"),
        Column::wide("DURABLE-ON"),
        Column::wide("UID"),
    ];

    fn cells(&self, now: WallTime) -> Vec<Cell> {
        let clusters: Vec<&str> =
            self.clusters.iter().map(codeco_protocol::ids::ClusterName::as_str).collect();
        let tone = match self.phase {
            AppPhase::Running => Tone::Good,
            AppPhase::Pending | AppPhase::Placing | AppPhase::Deleting => Tone::Busy,
            AppPhase::Degraded => Tone::Bad,
        };
        let generation = if self.generation == self.observed_generation {
            self.generation.to_string()
        } else {
            format!("{} ({} acted on)", self.generation, self.observed_generation)
        };
        vec![
            Cell::new(&self.namespace),
            Cell::new(&self.name),
            Cell::toned(format!("{:?}", self.phase), tone),
            Cell::new(format!("{}/{}", self.replicas_ready, self.replicas_wanted)),
            Cell::new(clusters.join(",")),
            Cell::new(self.profile),
            Cell::new(since(self.created_at, now)),
            Cell::new(generation),
            Cell::new(self.durable_on),
            Cell::new(self.uid),
        ]
    }

    fn is_called(&self, name: &str) -> bool {
        self.name.as_str() == name
    }
}
