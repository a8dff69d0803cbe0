//! Reading a manifest from a JSON tree. A reader never stops at the first problem: it notes it with its path and
//! goes on, so that one run tells everything. What it returns counts only if nothing was noted.

pub(super) mod app;
mod fields;
mod path;
pub(super) mod placement;
pub(super) mod pod;

use std::cell::RefCell;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub(super) use fields::Fields;
pub(super) use path::{Path, Segment};

use super::classes::Choice;
use super::quantity::Quantity;
use super::suggest::nearest;
use crate::ids::NAME_LEN_MAX;

/// Most problems noted of one document; further ones are counted by nobody.
pub(super) const PROBLEMS_MAX: usize = 64;
/// Longest part of a found text repeated in a message.
const FOUND_LEN_MAX: usize = 80;

/// One thing wrong, before its file and line are known.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) path: Path,
    pub(super) found: String,
    pub(super) expected: String,
    pub(super) hint: Option<String>,
}

/// Collects problems.
#[derive(Debug, Default)]
pub(super) struct Report(RefCell<Vec<Problem>>);

impl Report {
    pub(super) fn add(
        &self,
        path: &Path,
        found: impl Into<String>,
        expected: impl Into<String>,
        hint: Option<String>,
    ) {
        let mut problems = self.0.borrow_mut();
        if problems.len() < PROBLEMS_MAX {
            let (path, found, expected) = (path.clone(), found.into(), expected.into());
            problems.push(Problem { path, found, expected, hint });
        }
    }

    /// Whether further problems are dropped: then it is not worth finding good words for them.
    pub(super) fn is_full(&self) -> bool {
        self.0.borrow().len() >= PROBLEMS_MAX
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// Text as it appears in messages: quoted, cut.
pub(super) fn quoted(text: &str) -> String {
    if text.chars().count() > FOUND_LEN_MAX {
        format!("{:?}…", text.chars().take(FOUND_LEN_MAX).collect::<String>())
    } else {
        format!("{text:?}")
    }
}

/// A value as it appears in messages.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// A place in the tree.
#[derive(Clone)]
pub(super) struct Node<'a> {
    pub(super) value: &'a Value,
    pub(super) path: Path,
    report: &'a Report,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value, report: &'a Report) -> Self {
        Self { value, path: Path::root(), report }
    }

    fn child(&self, segment: Segment, value: &'a Value) -> Self {
        Self { value, path: self.path.join(segment), report: self.report }
    }

    /// Notes that something else was expected here.
    pub(super) fn expected(&self, expected: impl Into<String>) {
        self.report.add(&self.path, describe(self.value), expected, None);
    }

    pub(super) fn expected_hint(&self, expected: impl Into<String>, hint: impl Into<String>) {
        self.report.add(&self.path, describe(self.value), expected, Some(hint.into()));
    }

    /// The fields of an object, or a problem.
    pub(super) fn object(&self) -> Option<Fields<'a>> {
        let object = self.value.as_object();
        if object.is_none() {
            self.expected("an object");
        }
        object.map(|object| Fields::new(object, self.clone()))
    }

    /// The elements of a list, or a problem. More than `most` is a problem, and only those are read.
    pub(super) fn list(&self, most: usize) -> Vec<Node<'a>> {
        let Some(list) = self.value.as_array() else {
            self.expected("a list");
            return Vec::new();
        };
        if list.len() > most {
            self.report.add(&self.path, format!("{} elements", list.len()), format!("at most {most}"), None);
        }
        list.iter().take(most).enumerate().map(|(i, v)| self.child(Segment::Index(i), v)).collect()
    }

    /// A text. A number where a text belongs is a problem, as in Kubernetes.
    pub(super) fn text(&self) -> Option<String> {
        match self.value {
            Value::String(text) if text.contains('\0') => {
                self.expected("text without NUL characters");
                None
            }
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => {
                self.expected_hint("text", format!("write it in quotes: \"{}\"", self.value));
                None
            }
            _ => {
                self.expected("text");
                None
            }
        }
    }

    /// A text, or a number taken as one: quantities may be written either way.
    pub(super) fn text_or_number(&self, expected: &str) -> Option<String> {
        match self.value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => {
                self.expected(expected);
                None
            }
        }
    }

    /// A quantity; returns the text once it has proved readable.
    pub(super) fn quantity<Q: Quantity>(&self) -> Option<String> {
        let text = self.text_or_number(Q::EXPECTED)?;
        match Q::parse_quantity(&text) {
            Ok(_) => Some(text),
            Err(error) => {
                self.expected(error.expected);
                None
            }
        }
    }

    /// A name (RFC 1123 label).
    pub(super) fn name(&self) -> Option<String> {
        let text = self.text()?;
        if crate::ids::ServiceName::new(text.as_str()).is_ok() {
            return Some(text);
        }
        let expected = format!(
            "1 to {NAME_LEN_MAX} lower-case letters, digits or '-', starting and ending with a letter or digit \
             (RFC 1123)"
        );
        match nearest_name(&text) {
            Some(name) => self.expected_hint(expected, format!("for example {name:?}")),
            None => self.expected(expected),
        }
        None
    }

    /// A whole number between two bounds.
    pub(super) fn integer(&self, least: u64, most: u64) -> Option<u64> {
        let number = self.value.as_u64().filter(|n| (least..=most).contains(n));
        if number.is_none() {
            self.expected(format!("a whole number from {least} to {most}"));
        }
        number
    }

    /// One of a closed set of words.
    pub(super) fn choice<C: Choice>(&self) -> Option<C> {
        let expected = || format!("one of {}", C::WORDS.join(", "));
        let Value::String(text) = self.value else {
            self.expected(expected());
            return None;
        };
        let choice = C::from_word(text);
        if choice.is_none() {
            match nearest(text, C::WORDS) {
                Some(word) => self.expected_hint(expected(), format!("did you mean {word:?}?")),
                None => self.expected(expected()),
            }
        }
        choice
    }
}

/// A name near `text` that would be right, for the hint.
fn nearest_name(text: &str) -> Option<String> {
    let folded: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .take(NAME_LEN_MAX)
        .collect();
    let trimmed = folded.trim_matches('-');
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

/// Reads through serde what a manifest reader reads, with every problem in the error text.
pub(super) fn from_serde<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    read: fn(&Node<'_>) -> T,
) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let report = Report::default();
    let read = read(&Node::root(&value, &report));
    let problems = report.into_problems();
    if problems.is_empty() {
        return Ok(read);
    }
    let texts: Vec<String> =
        problems.iter().map(|p| format!("{}: found {}, expected {}", p.path, p.found, p.expected)).collect();
    Err(serde::de::Error::custom(texts.join("; ")))
}
