//! Events in a table.

use codeco_protocol::api::{EventType, EventView};
use codeco_protocol::units::WallTime;

use super::numbers::since;
use super::{Cell, Column, Row, Tone};

impl Row for EventView {
    const PATH: &'static str = "events";
    const COLUMNS: &'static [Column] = &[
        Column::new("LAST-SEEN").volatile(),
        Column::new("TYPE"),
        Column::new("REASON"),
        Column::new("OBJECT"),
        Column::new("COUNT"),
        Column::wide("MEMBER"),
        Column::wide("FIRST-SEEN").volatile(),
        Column::new("MESSAGE"),
    ];

    fn cells(&self, now: WallTime) -> Vec<Cell> {
        let tone = if self.kind == EventType::Warning { Tone::Busy } else { Tone::Plain };
        vec![
            Cell::new(since(self.at, now)),
            Cell::toned(format!("{:?}", self.kind), tone),
            Cell::new(&self.reason),
            Cell::new(&self.object),
            Cell::new(self.count),
            Cell::new(&self.member),
            Cell::new(since(self.first_at, now)),
            Cell::new(&self.message),
        ]
    }

    /// `kind/name` of the object, or its name.
    fn is_called(&self, name: &str) -> bool {
        self.object.name == name || self.object.to_string() == name
    }
}
