//! Checks of `doctor` in a table.

use codeco_protocol::api::{CheckView, Verdict};
use codeco_protocol::units::WallTime;

use super::{Cell, Column, Row, Tone};

impl Row for CheckView {
    const PATH: &'static str = "checks";
    const COLUMNS: &'static [Column] = &[
        Column::new("VERDICT"),
        Column::new("MEMBER"),
        Column::new("CHECK"),
        Column::new("FOUND"),
        Column::wide("DID"),
    ];

    fn cells(&self, _: WallTime) -> Vec<Cell> {
        let (word, tone) = match self.verdict {
            Verdict::Ok => ("ok", Tone::Good),
            Verdict::Warning => ("warning", Tone::Busy),
            Verdict::Failed => ("FAILED", Tone::Bad),
        };
        vec![
            Cell::toned(word, tone),
            Cell::new(&self.member),
            Cell::new(&self.check),
            Cell::new(&self.found),
            Cell::new(&self.did),
        ]
    }

    fn is_called(&self, name: &str) -> bool {
        self.check == name || self.member == name
    }
}
