//! Wall-clock times for people.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::units::WallTime;

/// RFC 3339 in UTC with milliseconds: `2026-11-05T08:30:00.250Z`. A time beyond the year 9999 is told in
/// milliseconds.
#[must_use]
pub fn rfc3339(at: WallTime) -> String {
    let nanos = i128::from(at.0) * 1_000_000;
    let Ok(time) = OffsetDateTime::from_unix_timestamp_nanos(nanos) else { return format!("{} ms", at.0) };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// Reads RFC 3339; parts of a millisecond are cut off. `None` for anything else and for times before 1970.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<WallTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok().map(WallTime)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn time_written_and_read_again_is_the_same() {
        assert_eq!(rfc3339(WallTime(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(WallTime(1_793_867_400_250)), "2026-11-05T08:30:00.250Z");
        for at in [0, 1, 951_782_400_000, 253_402_300_799_999] {
            assert_eq!(parse_rfc3339(&rfc3339(WallTime(at))), Some(WallTime(at)), "{at}");
        }
    }

    #[test]
    fn time_that_cannot_be_told_or_read_is_not_made_up() {
        assert_eq!(rfc3339(WallTime(u64::MAX)), "18446744073709551615 ms");
        assert_eq!(parse_rfc3339("yesterday"), None);
        assert_eq!(parse_rfc3339("1960-01-01T00:00:00Z"), None);
    }
}
