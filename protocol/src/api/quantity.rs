//! Kubernetes quantities (`500m`, `128Mi`, `1e6`) and spans of time (`10s`, `10e-3`) as our units.
//!
//! Exact integer arithmetic throughout; what does not divide is rounded up, so that a demand never shrinks.
//! Grammar: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use crate::units::{BitsPerSecond, Bytes, Micros, MilliCpu};

/// Longest text accepted as a quantity.
pub const QUANTITY_LEN_MAX: usize = 64;

/// Most significant digits: with the largest suffix (`Ei`) the product still fits 128 bits.
const DIGITS_MAX: usize = 20;

/// What is wrong with a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantityProblem {
    /// Not a number with a known suffix; also NaN and infinities.
    Malformed,
    /// Below zero.
    Negative,
    /// More than 64 bits hold in our unit.
    TooLarge,
    /// `5m` as a span: thousandths for Kubernetes, minutes for people.
    Ambiguous,
}

/// A text that is not a quantity of the kind wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, expected {expected}")]
pub struct QuantityError {
    /// What was found, cut to [`QUANTITY_LEN_MAX`] characters.
    pub found: String,
    /// What would have been right.
    pub expected: String,
    /// Class of the error.
    pub problem: QuantityProblem,
}

/// A unit that can be read from a manifest.
pub trait Quantity: Sized {
    /// What a right text looks like, for error messages.
    const EXPECTED: &'static str;

    /// Reads a quantity and rounds up to this unit.
    ///
    /// # Errors
    /// [`QuantityError`] with what was found and what was expected; nothing else happens.
    fn parse_quantity(text: &str) -> Result<Self, QuantityError>;
}

impl Quantity for MilliCpu {
    const EXPECTED: &'static str = "a quantity such as 500m or 2";
    fn parse_quantity(text: &str) -> Result<Self, QuantityError> {
        scaled(text, kubernetes_suffix, 3).map(Self).map_err(|p| error(text, Self::EXPECTED, p))
    }
}

impl Quantity for Bytes {
    const EXPECTED: &'static str = "a quantity such as 128Mi or 1G";
    fn parse_quantity(text: &str) -> Result<Self, QuantityError> {
        scaled(text, kubernetes_suffix, 0).map(Self).map_err(|p| error(text, Self::EXPECTED, p))
    }
}

impl Quantity for BitsPerSecond {
    const EXPECTED: &'static str = "bits per second such as 5M or 250k";
    fn parse_quantity(text: &str) -> Result<Self, QuantityError> {
        scaled(text, kubernetes_suffix, 0).map(Self).map_err(|p| error(text, Self::EXPECTED, p))
    }
}

impl Quantity for Micros {
    const EXPECTED: &'static str = "a span of time such as 250ms, 10s or 10e-3 (seconds when bare)";
    fn parse_quantity(text: &str) -> Result<Self, QuantityError> {
        scaled(text, time_suffix, 6).map(Self).map_err(|p| error(text, Self::EXPECTED, p))
    }
}

/// Reads a whole number of things (an extended resource) written as a quantity.
///
/// # Errors
/// [`QuantityError`] as for every quantity.
pub fn parse_count(text: &str) -> Result<u64, QuantityError> {
    scaled(text, kubernetes_suffix, 0).map_err(|p| error(text, "a whole number such as 1", p))
}

fn error(text: &str, expected: &str, problem: QuantityProblem) -> QuantityError {
    let expected = match problem {
        QuantityProblem::Malformed => expected.to_owned(),
        QuantityProblem::Negative => format!("{expected}, not below zero"),
        QuantityProblem::TooLarge => format!("{expected}, not larger than 64 bits hold"),
        QuantityProblem::Ambiguous => {
            format!("{expected}; \"m\" is ambiguous here: write ms for milliseconds or min for minutes")
        }
    };
    QuantityError { found: text.chars().take(QUANTITY_LEN_MAX).collect(), expected, problem }
}

/// What a suffix multiplies by: `factor · 2^shift · 10^exponent`.
#[derive(Clone, Copy)]
struct Scale {
    factor: u32,
    shift: u32,
    exponent: i32,
}

const fn decimal(exponent: i32) -> Scale {
    Scale { factor: 1, shift: 0, exponent }
}

const fn binary(shift: u32) -> Scale {
    Scale { factor: 1, shift, exponent: 0 }
}

fn kubernetes_suffix(suffix: &str) -> Result<Scale, QuantityProblem> {
    Ok(match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => return Err(QuantityProblem::Malformed),
    })
}

fn time_suffix(suffix: &str) -> Result<Scale, QuantityProblem> {
    Ok(match suffix {
        "ns" => decimal(-9),
        "us" | "µs" | "μs" => decimal(-6),
        "ms" => decimal(-3),
        "" | "s" => decimal(0),
        "min" => Scale { factor: 60, shift: 0, exponent: 0 },
        "h" => Scale { factor: 3_600, shift: 0, exponent: 0 },
        "m" => return Err(QuantityProblem::Ambiguous),
        _ => return Err(QuantityProblem::Malformed),
    })
}

/// The number in `text` times its suffix times `10^unit`, rounded up.
fn scaled(
    text: &str,
    suffix_of: fn(&str) -> Result<Scale, QuantityProblem>,
    unit: i32,
) -> Result<u64, QuantityProblem> {
    use QuantityProblem::{Malformed, Negative, TooLarge};
    if text.len() > QUANTITY_LEN_MAX {
        return Err(Malformed);
    }
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, tail) = rest.split_at(end);
    let (mantissa, point) = mantissa(number)?;
    let (power, suffix) = exponent(tail)?;
    let scale = suffix_of(suffix)?;
    if negative {
        return Err(Negative);
    }
    if mantissa == 0 {
        return Ok(0);
    }
    // At most 67 bits times 60 bits, or times 3600.
    let product =
        mantissa.checked_mul(u128::from(scale.factor)).and_then(|m| m.checked_mul(1_u128 << scale.shift));
    let product = product.ok_or(TooLarge)?;
    let exponent = power + scale.exponent + unit - point;
    let ten_to = |n: u32| 10_u128.checked_pow(n);
    let value = if exponent >= 0 {
        ten_to(exponent.unsigned_abs()).and_then(|p| product.checked_mul(p)).ok_or(TooLarge)?
    } else {
        // A divisor beyond 128 bits leaves a rest of something: rounded up that is one.
        ten_to(exponent.unsigned_abs()).map_or(1, |p| product.div_ceil(p))
    };
    u64::try_from(value).map_err(|_| TooLarge)
}

/// Digits without their point, and how many stood behind it.
fn mantissa(number: &str) -> Result<(u128, i32), QuantityProblem> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(QuantityProblem::Malformed);
    }
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok((0, 0));
    }
    if digits.len() > DIGITS_MAX {
        return Err(QuantityProblem::TooLarge);
    }
    let value = digits.parse().map_err(|_| QuantityProblem::Malformed)?;
    let point = i32::try_from(fraction.len()).map_err(|_| QuantityProblem::Malformed)?;
    Ok((value, point))
}

/// Splits `e-3`, `E6` off what follows the digits. `E` and `Ei` alone are suffixes; a unit may follow an exponent
/// only in spans (`10e-3s`), which the suffix tables decide.
fn exponent(tail: &str) -> Result<(i32, &str), QuantityProblem> {
    let Some(after) = tail.strip_prefix(['e', 'E']) else { return Ok((0, tail)) };
    let sign_len = usize::from(after.starts_with(['+', '-']));
    let digits = after[sign_len..].find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len() - sign_len);
    if digits == 0 {
        return Ok((0, tail));
    }
    let end = sign_len + digits;
    let power: i32 = after[..end].parse().map_err(|_| QuantityProblem::TooLarge)?;
    if power.abs() > 1_000 {
        return Err(if power > 0 { QuantityProblem::TooLarge } else { QuantityProblem::Malformed });
    }
    // Kubernetes has either an exponent or a suffix, never both; for spans a time unit may follow.
    let suffix = &after[end..];
    if matches!(suffix, "" | "s" | "ms" | "us" | "ns") {
        Ok((power, suffix))
    } else {
        Err(QuantityProblem::Malformed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cpu(text: &str) -> Result<u64, QuantityProblem> {
        MilliCpu::parse_quantity(text).map(|v| v.0).map_err(|e| e.problem)
    }
    fn bytes(text: &str) -> Result<u64, QuantityProblem> {
        Bytes::parse_quantity(text).map(|v| v.0).map_err(|e| e.problem)
    }
    fn micros(text: &str) -> Result<u64, QuantityProblem> {
        Micros::parse_quantity(text).map(|v| v.0).map_err(|e| e.problem)
    }

    #[test]
    fn quantity_of_each_kind_is_read_exactly() {
        for (text, milli) in [("500m", 500), ("2", 2_000), ("0.5", 500), (".5", 500), ("2.", 2_000), ("0", 0)]
        {
            assert_eq!(cpu(text), Ok(milli), "{text}");
        }
        for (text, want) in [
            ("128Mi", 128 << 20),
            ("1G", 1_000_000_000),
            ("1e6", 1_000_000),
            ("1E3", 1_000),
            ("1.5Ki", 1_536),
        ] {
            assert_eq!(bytes(text), Ok(want), "{text}");
        }
        assert_eq!(bytes("15Ei"), Ok(15 << 60));
        assert_eq!(BitsPerSecond::parse_quantity("5M"), Ok(BitsPerSecond(5_000_000)));
        for (text, want) in [
            ("10s", 10_000_000),
            ("250ms", 250_000),
            ("1", 1_000_000),
            ("10e-3", 10_000),
            ("2min", 120_000_000),
            ("1h", 3_600_000_000),
        ] {
            assert_eq!(micros(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn quantity_between_two_units_is_rounded_up() {
        assert_eq!(micros("1ns"), Ok(1));
        assert_eq!(cpu("1n"), Ok(1));
        assert_eq!(cpu("0.0001"), Ok(1));
        assert_eq!(cpu("1.0005"), Ok(1_001));
        assert_eq!(bytes("100m"), Ok(1));
        assert_eq!(bytes("1e-999"), Ok(1));
    }

    #[test]
    fn quantity_that_is_none_is_refused_by_class() {
        use QuantityProblem::{Ambiguous, Malformed, Negative, TooLarge};
        for bad in
            ["", "lots", "NaN", "inf", "1 Gi", "1gi", "1.2.3", "--1", "e3", ".", "1e", "1e3Mi", "٣", "0x10"]
        {
            assert_eq!(cpu(bad), Err(Malformed), "{bad}");
        }
        assert_eq!(cpu(&"1".repeat(65)), Err(Malformed));
        assert_eq!(cpu("-1"), Err(Negative));
        for big in ["16Ei", "1e30", "99999999999999999999", "123456789012345678901", "1e99999999999"] {
            assert_eq!(bytes(big), Err(TooLarge), "{big}");
        }
        assert_eq!(micros("5m"), Err(Ambiguous));
        assert_eq!(bytes("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn quantity_error_says_what_was_found_and_expected() {
        let error = MilliCpu::parse_quantity("lots").unwrap_err();
        assert_eq!(error.to_string(), "found \"lots\", expected a quantity such as 500m or 2");
    }

    proptest! {
        #[test]
        fn quantity_of_any_text_never_panics(text in "\\PC{0,70}") {
            let _ = (cpu(&text), bytes(&text), micros(&text), parse_count(&text));
        }

        #[test]
        fn quantity_in_thousandths_is_the_number_itself(n in 0_u64..=u64::MAX / 1_000) {
            prop_assert_eq!(cpu(&format!("{n}m")), Ok(n));
            prop_assert_eq!(cpu(&n.to_string()), Ok(n * 1_000));
        }
    }
}
