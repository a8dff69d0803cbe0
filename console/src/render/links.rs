//! Links in a table.

use codeco_protocol::api::{LinkSource, LinkStatus, LinkView};
use codeco_protocol::units::WallTime;

use super::numbers::{age, millis, percent};
use super::{Cell, Column, Row, Tone};

impl Row for LinkView {
    const PATH: &'static str = "links";
    const COLUMNS: &'static [Column] = &[
        Column::new("FROM"),
        Column::new("TO"),
        Column::new("STATE"),
        Column::new("RTT").volatile(),
        Column::new("JITTER").volatile(),
        Column::new("LOSS").volatile(),
        Column::new("SOURCE"),
        Column::new("AGE").volatile(),
        Column::wide("LEAST").volatile(),
        Column::wide("ERROR").volatile(),
        Column::wide("MTU"),
    ];

    fn cells(&self, _: WallTime) -> Vec<Cell> {
        let tone = match self.status {
            LinkStatus::Up => Tone::Good,
            LinkStatus::Silent => Tone::Busy,
            LinkStatus::Down => Tone::Bad,
            LinkStatus::Idle | LinkStatus::Unmeasured => Tone::Plain,
        };
        let source = match self.source {
            LinkSource::Measured => "measured",
            LinkSource::Estimated => "estimated",
            LinkSource::Unknown => "unknown",
        };
        vec![
            Cell::new(&self.from),
            Cell::new(&self.to),
            Cell::toned(format!("{:?}", self.status).to_lowercase(), tone),
            Cell::maybe(self.rtt_us.map(millis).as_ref()),
            Cell::maybe(self.jitter_us.map(millis).as_ref()),
            Cell::maybe(self.loss.map(percent).as_ref()),
            Cell::new(&match &self.via {
                Some(relay) => format!("{source} via {relay}"),
                None => source.to_owned(),
            }),
            Cell::maybe(self.age_ms.map(age).as_ref()),
            Cell::maybe(self.rtt_min_us.map(millis).as_ref()),
            Cell::maybe(self.error.map(|error| format!("±{}", percent(error))).as_ref()),
            Cell::maybe(self.mtu.as_ref()),
        ]
    }

    /// One of its ends, or `FROM-TO` as in `edge-1/a:edge-1/b`.
    fn is_called(&self, name: &str) -> bool {
        self.from == name || self.to == name || format!("{}:{}", self.from, self.to) == name
    }
}
