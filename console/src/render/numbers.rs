//! Ages and numbers as people read them.

use codeco_protocol::api::AGE_UNKNOWN;
use codeco_protocol::units::WallTime;

/// Time since `then`: `12s`, `3m`, `5h`, `2d`.
pub(crate) fn since(then: WallTime, now: WallTime) -> String {
    whole(now.0.saturating_sub(then.0) / 1_000)
}

/// An age that may be below a second: `120ms`, `12s`.
pub(crate) fn age(ms: u64) -> String {
    match ms {
        AGE_UNKNOWN => "unknown".to_owned(),
        0..1_000 => format!("{ms}ms"),
        _ => whole(ms / 1_000),
    }
}

fn whole(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A round trip in milliseconds: `0.35 ms`, `12.4 ms`.
pub(crate) fn millis(us: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let ms = us as f64 / 1_000.0;
    match us {
        0..10_000 => format!("{ms:.2} ms"),
        10_000..1_000_000 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

/// A share as people read it: `0%`, `0.4%`, `12%`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 9.95 { format!("{percent:.1}%") } else { format!("{percent:.0}%") }
}

/// A number with at most three decimals, more for large ones none.
pub(crate) fn number(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 1_000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.001 || size == 0.0 => format!("{value:.3}"),
        _ => return format!("{value:.1e}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A number with its unit.
pub(crate) fn measure(value: f64, unit: &str) -> String {
    if unit.is_empty() { number(value) } else { format!("{} {unit}", number(value)) }
}

/// A score, always with as many decimals, so that columns can be compared.
pub(crate) fn score(value: f64) -> String {
    format!("{value:.4}")
}

/// A span of time as people write it: `90s`, `30m`, `1h`, `2d`, or seconds alone.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => 0,
    };
    let value = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|&n| n > 0);
    value.ok_or_else(|| format!("{text:?} is no span of time: expected such as 90s, 30m, 1h or 2d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_told_in_the_unit_a_person_would_choose() {
        let all: Vec<String> = [0, 12, 119, 120, 7_199, 7_200, 172_800].into_iter().map(whole).collect();
        assert_eq!(all, ["0s", "12s", "119s", "2m", "119m", "2h", "2d"]);
        assert_eq!(age(250), "250ms");
        assert_eq!(age(AGE_UNKNOWN), "unknown");
        assert_eq!(since(WallTime(10), WallTime(5)), "0s", "a clock that runs ahead");
    }

    #[test]
    fn round_trip_and_share_are_told_as_precisely_as_is_of_use() {
        let all: Vec<String> = [0, 354, 12_432, 2_000_000].into_iter().map(millis).collect();
        assert_eq!(all, ["0.00 ms", "0.35 ms", "12.4 ms", "2000 ms"]);
        let all: Vec<String> = [0.0, 0.0042, 0.12, 1.0].into_iter().map(percent).collect();
        assert_eq!(all, ["0%", "0.4%", "12%", "100%"]);
    }

    #[test]
    fn number_is_short_and_never_lost() {
        let all: Vec<String> =
            [0.0, 0.5, 12.34, 1234.5, -0.25, 0.0001, f64::NAN].into_iter().map(number).collect();
        assert_eq!(all, ["0", "0.5", "12.3", "1234", "-0.25", "1.0e-4", "NaN"]);
    }

    #[test]
    fn span_of_time_is_read_in_its_units_and_refused_otherwise() {
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("1h"), Ok(3_600));
        assert_eq!(seconds("2d"), Ok(172_800));
        for wrong in ["", "h", "0s", "1w", "-1h", "99999999999999999999d", "1.5h"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
