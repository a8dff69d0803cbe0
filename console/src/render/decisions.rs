//! Decisions in a table.

use codeco_protocol::api::DecisionView;
use codeco_protocol::units::WallTime;

use super::numbers::since;
use super::{Cell, Column, Row};

impl Row for DecisionView {
    const PATH: &'static str = "decisions";
    const COLUMNS: &'static [Column] = &[
        Column::new("AGE").volatile(),
        Column::namespace(),
        Column::new("REPLICA"),
        Column::new("LEVEL"),
        Column::new("ACTION"),
        Column::new("CHOSEN"),
        Column::new("RUNNER-UP"),
        Column::new("REASON"),
        Column::wide("PROFILE"),
        Column::wide("POLICY"),
        Column::wide("TOKEN"),
        Column::wide("ID"),
    ];

    fn cells(&self, now: WallTime) -> Vec<Cell> {
        vec![
            Cell::new(since(self.at, now)),
            Cell::new(&self.namespace),
            Cell::new(format!("{}/{}-{}", self.app, self.service, self.index)),
            Cell::new(format!("{:?}", self.level)),
            Cell::new(&self.action),
            Cell::maybe(self.chosen.as_ref()),
            Cell::maybe(self.runner_up.as_ref()),
            Cell::new(&self.reason),
            Cell::new(self.profile),
            Cell::new(&self.policy),
            Cell::maybe(self.token.as_ref()),
            Cell::new(self.id),
        ]
    }

    /// The id, or the name of the application or of the replica.
    fn is_called(&self, name: &str) -> bool {
        let replica = format!("{}/{}-{}", self.app, self.service, self.index);
        self.id.to_string() == name || self.app.as_str() == name || replica == name
    }
}
