//! Selectors of labels, written as in Kubernetes: `zone=a,tier!=test,disk in (ssd,nvme),!old`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Most requirements of one selector.
pub const REQUIREMENTS_MAX: usize = 64;
/// Most values of one requirement.
const VALUES_MAX: usize = 64;
/// Longest key or value.
const TEXT_MAX: usize = 317;

/// What one label must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// One of these; `=` and `==` too.
    In(BTreeSet<String>),
    /// None of these, or no such label; `!=` too.
    NotIn(BTreeSet<String>),
    /// There is one.
    Exists,
    /// There is none.
    Absent,
}

/// All of its requirements must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector(Vec<(String, Condition)>);

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("selector: found {found:?}, expected {expected}")]
pub struct SelectorError {
    /// The part that is wrong.
    pub found: String,
    /// What would do.
    pub expected: &'static str,
}

impl Selector {
    /// Whether labels, read by key, are as wanted.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|(key, condition)| match (condition, label(key)) {
            (Condition::In(values), Some(value)) => values.contains(value),
            (Condition::In(_), None) | (Condition::Absent, Some(_)) | (Condition::Exists, None) => false,
            (Condition::NotIn(values), Some(value)) => !values.contains(value),
            (Condition::NotIn(_) | Condition::Absent, None) | (Condition::Exists, Some(_)) => true,
        })
    }
}

/// The parts between commas that are not within parentheses.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut within) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' => within = true,
            ')' => within = false,
            ',' if !within => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn plain(text: &str) -> Option<&str> {
    let text = text.trim();
    let odd = |c: char| c.is_control() || "=!(),".contains(c);
    (text.len() <= TEXT_MAX && !text.contains(odd)).then_some(text)
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let error =
            |found: &str, expected| SelectorError { found: found.chars().take(100).collect(), expected };
        let parts = parts(text);
        if parts.len() > REQUIREMENTS_MAX {
            return Err(error(text, "at most 64 requirements"));
        }
        parts.into_iter().map(requirement).collect::<Result<_, _>>().map(Self)
    }
}

fn requirement(part: &str) -> Result<(String, Condition), SelectorError> {
    const EXPECTED: &str = "KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY or !KEY";
    let error = || SelectorError { found: part.trim().chars().take(100).collect(), expected: EXPECTED };
    let key = |text: &str| {
        let key = plain(text).filter(|key| !key.is_empty() && !key.contains(char::is_whitespace));
        key.map(ToOwned::to_owned).ok_or_else(error)
    };
    let one = |text: &str| plain(text).map(|value| BTreeSet::from([value.to_owned()])).ok_or_else(error);
    let trimmed = part.trim();
    if let Some(absent) = trimmed.strip_prefix('!') {
        return Ok((key(absent)?, Condition::Absent));
    }
    if let Some((name, list)) = trimmed.split_once('(') {
        let list = list.strip_suffix(')').ok_or_else(error)?;
        let values: Option<BTreeSet<String>> =
            list.split(',').map(|value| plain(value).map(ToOwned::to_owned)).collect();
        let values = values.filter(|values| values.len() <= VALUES_MAX).ok_or_else(error)?;
        let (name, operator) = name.trim_end().rsplit_once(char::is_whitespace).ok_or_else(error)?;
        return match operator {
            "in" => Ok((key(name)?, Condition::In(values))),
            "notin" => Ok((key(name)?, Condition::NotIn(values))),
            _ => Err(error()),
        };
    }
    if let Some((name, value)) = trimmed.split_once("!=") {
        return Ok((key(name)?, Condition::NotIn(one(value)?)));
    }
    if let Some((name, value)) = trimmed.split_once("==").or_else(|| trimmed.split_once('=')) {
        return Ok((key(name)?, Condition::In(one(value)?)));
    }
    Ok((key(trimmed)?, Condition::Exists))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(key, condition)| match condition {
                Condition::In(values) if values.len() == 1 => format!("{key}={}", list(values)),
                Condition::In(values) => format!("{key} in ({})", list(values)),
                Condition::NotIn(values) if values.len() == 1 => format!("{key}!={}", list(values)),
                Condition::NotIn(values) => format!("{key} notin ({})", list(values)),
                Condition::Exists => key.clone(),
                Condition::Absent => format!("!{key}"),
            })
            .collect();
        f.pad(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(selector: &str, labels: &[(&'static str, &'static str)]) -> bool {
        let selector: Selector = selector.parse().unwrap();
        selector.matches(|key| labels.iter().find(|(known, _)| *known == key).map(|(_, value)| *value))
    }

    #[test]
    fn selector_means_what_it_means_in_kubernetes() {
        let labels = [("zone", "a"), ("disk", "ssd"), ("example.com/gpu", "")];
        for (selector, expected) in [
            ("zone=a", true),
            ("zone == a , disk=ssd", true),
            ("zone=b", false),
            ("rack=1", false),
            ("zone!=b,rack!=1", true),
            ("zone in (a, b),disk notin (hdd)", true),
            ("zone in (b,c)", false),
            ("rack notin (1,2)", true),
            ("example.com/gpu", true),
            ("example.com/gpu=", true),
            ("!rack,!zone", false),
            ("!rack", true),
            ("rack", false),
        ] {
            assert_eq!(matches(selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn text_that_is_no_selector_is_refused_with_the_part_that_is_wrong() {
        for (text, found) in [
            ("", ""),
            ("zone=a,", ""),
            ("zone=a,=b", "=b"),
            ("zone in a", "zone in a"),
            ("zone in (a", "zone in (a"),
            ("zone within (a)", "zone within (a)"),
            ("a=b=c", "a=b=c"),
            ("! =x", "! =x"),
        ] {
            let error = text.parse::<Selector>().unwrap_err();
            assert_eq!(error.found, found, "{text}");
            assert!(error.to_string().contains("expected KEY=VALUE"), "{error}");
        }
        assert!(vec!["a"; REQUIREMENTS_MAX + 1].join(",").parse::<Selector>().is_err());
    }

    proptest! {
        #[test]
        fn selector_written_out_is_read_as_the_same(text in "[a-c!=, ()in]{0,40}") {
            if let Ok(selector) = text.parse::<Selector>() {
                let again: Selector = selector.to_string().parse().unwrap();
                prop_assert_eq!(again, selector);
            }
        }
    }
}
