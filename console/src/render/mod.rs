//! What people read: pure functions from views to text.

mod actors;
mod apps;
mod checks;
pub(crate) mod clusters;
mod decisions;
mod events;
pub(crate) mod explain;
mod fields;
mod links;
mod nodes;
pub(crate) mod numbers;
mod replicas;
mod table;

use codeco_protocol::units::WallTime;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use fields::Fields;
pub(crate) use table::{Cell, Column, Table, Tone, Width};

/// A view that is a row of a table.
pub(crate) trait Row: Serialize + DeserializeOwned {
    /// Last part of the path of its list.
    const PATH: &'static str;
    /// Columns.
    const COLUMNS: &'static [Column];
    /// One cell for each column.
    fn cells(&self, now: WallTime) -> Vec<Cell>;
    /// Whether people may mean it by `name`.
    fn is_called(&self, name: &str) -> bool;
}

/// A table of `rows`.
pub(crate) fn table<R: Row>(rows: &[R], now: WallTime) -> Table {
    Table { columns: R::COLUMNS, rows: rows.iter().map(|row| row.cells(now)).collect() }
}

/// `text` on one line and without control characters: nobody may steer a terminal by a name or a message.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Like [`clean`], but line ends stay.
pub(crate) fn clean_lines(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}
