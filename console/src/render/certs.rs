//! Certificates in a table.

use codeco_protocol::api::{CertState, CertView, rfc3339};
use codeco_protocol::units::WallTime;

use super::numbers::age;
use super::{Cell, Column, Row, Tone};

impl Row for CertView {
    const PATH: &'static str = "certs";
    const COLUMNS: &'static [Column] = &[
        Column::new("MEMBER"),
        Column::new("SERIAL"),
        Column::new("ISSUER"),
        Column::new("LEFT").volatile(),
        Column::new("STATE"),
        Column::new("RENEWED"),
        Column::new("ISSUES"),
        Column::wide("NOT AFTER"),
        Column::wide("AUTHORITY"),
        Column::wide("TRUST"),
        Column::wide("ID"),
    ];

    fn cells(&self, now: WallTime) -> Vec<Cell> {
        let tone = match self.state {
            CertState::Valid => Tone::Good,
            CertState::Due => Tone::Busy,
            CertState::Expired | CertState::Revoked | CertState::Unknown => Tone::Bad,
        };
        let clock = if self.clock_unknown { ",ClockUnknown" } else { "" };
        let renewed =
            self.renewed.map(|at| format!("{}x, {} ago", self.renewals, age(now.0.saturating_sub(at.0))));
        let issues = self.issues_until.map(|until| format!("{} more", age(until.0.saturating_sub(now.0))));
        vec![
            Cell::new(&self.member),
            Cell::maybe(self.serial.as_ref()),
            Cell::new(&self.issuer),
            Cell::new(self.not_after.0.checked_sub(now.0).map_or("-".to_owned(), age)),
            Cell::toned(format!("{:?}{clock}", self.state), tone),
            Cell::maybe(renewed.as_ref()),
            Cell::maybe(issues.as_ref()),
            Cell::new(rfc3339(self.not_after)),
            Cell::maybe(self.authority.as_ref()),
            Cell::new(self.trust),
            Cell::new(self.id),
        ]
    }

    /// `cluster/node`, the id, or the serial number.
    fn is_called(&self, name: &str) -> bool {
        self.member == name || self.id.to_string() == name || self.serial.as_deref() == Some(name)
    }
}
