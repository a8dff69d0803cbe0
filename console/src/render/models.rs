//! Models and gates in a table.

use codeco_protocol::api::{ModelState, ModelView};
use codeco_protocol::units::{Micros, WallTime};

use super::numbers::{score, since};
use super::{Cell, Column, Row, Tone};

impl Row for ModelView {
    const PATH: &'static str = "models";
    const COLUMNS: &'static [Column] = &[
        Column::new("PLACE"),
        Column::new("MODEL"),
        Column::new("STATE"),
        Column::new("SINCE").volatile(),
        Column::new("LOSS"),
        Column::new("BEST-BASELINE"),
        Column::new("ROUNDS"),
        Column::new("WHY"),
        Column::wide("COVERAGE"),
        Column::wide("TRAINED-ON"),
        Column::wide("TRIAL"),
    ];

    fn cells(&self, now: WallTime) -> Vec<Cell> {
        let tone = match self.state {
            ModelState::Active => Tone::Good,
            ModelState::Shadow => Tone::Busy,
            ModelState::Off | ModelState::NoModel | ModelState::Learner => Tone::Plain,
        };
        let named = match self.version {
            0 => self.model.clone(),
            version => format!("{}/{version}", self.model),
        };
        let best = self.best_baseline().map(|best| format!("{} {}", best.name, score(best.loss)));
        let trained = self.windows.zip(self.nodes).map(|(windows, nodes)| {
            let step =
                self.step_ms.map(|ms| format!(", {}", Micros::from_millis(ms.into()))).unwrap_or_default();
            format!("{windows} windows of {nodes} nodes{step}")
        });
        vec![
            Cell::new(&self.place),
            Cell::new(named),
            Cell::toned(format!("{:?}", self.state), tone),
            Cell::maybe((self.since.0 > 0).then(|| since(self.since, now)).as_ref()),
            Cell::maybe(self.loss().map(score).as_ref()),
            Cell::maybe(best.as_ref()),
            Cell::maybe(self.rounds.as_ref()),
            Cell::new(&self.reason),
            Cell::maybe(self.coverage.map(|share| format!("{:.1} %", share * 100.0)).as_ref()),
            Cell::maybe(trained.as_ref()),
            Cell::maybe(self.trial.as_ref()),
        ]
    }

    fn is_called(&self, name: &str) -> bool {
        self.place == name
    }
}
