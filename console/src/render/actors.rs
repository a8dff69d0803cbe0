//! Actors in a table.

use codeco_protocol::api::{ActorState, ActorView};
use codeco_protocol::units::{Micros, WallTime};

use super::numbers::number;
use super::{Cell, Column, Row, Tone};

impl Row for ActorView {
    const PATH: &'static str = "actors";
    const COLUMNS: &'static [Column] = &[
        Column::new("MEMBER"),
        Column::new("NAME"),
        Column::new("STATE"),
        Column::new("RESTARTS"),
        Column::new("MAILBOX").volatile(),
        Column::new("HANDLED").volatile(),
        Column::new("RATE").volatile(),
        Column::new("WAIT-P50").volatile(),
        Column::new("WAIT-P99").volatile(),
        Column::wide("PARENT"),
        Column::wide("LAST-ERROR"),
    ];

    fn cells(&self, _: WallTime) -> Vec<Cell> {
        let tone = match self.state {
            ActorState::Running => Tone::Good,
            ActorState::BackingOff => Tone::Busy,
            ActorState::GivenUp => Tone::Bad,
            ActorState::Stopped => Tone::Plain,
        };
        vec![
            Cell::new(&self.member),
            Cell::new(&self.name),
            Cell::toned(format!("{:?}", self.state), tone),
            Cell::new(self.restarts),
            Cell::new(self.mailbox_depth),
            Cell::new(self.handled),
            Cell::new(format!("{}/s", number(self.handled_per_second))),
            Cell::maybe(self.wait_p50_us.map(Micros).as_ref()),
            Cell::maybe(self.wait_p99_us.map(Micros).as_ref()),
            Cell::maybe(self.parent.as_ref()),
            Cell::maybe(self.last_error.as_ref()),
        ]
    }

    /// The name, or `member/name`.
    fn is_called(&self, name: &str) -> bool {
        self.name == name || format!("{}/{}", self.member, self.name) == name
    }
}
