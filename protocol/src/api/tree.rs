//! Text to JSON trees, bounded: documents are split by hand, so that one broken document hides nothing of the next,
//! and aliases are counted as they are written out, so that a few lines cannot become gigabytes.

use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::read::{Path, Report};

/// Most bytes of one document.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Deepest nesting of lists and objects.
pub const DOCUMENT_DEPTH_MAX: usize = 48;
/// Most values of one document, aliases written out.
pub const DOCUMENT_VALUES_MAX: usize = 50_000;
/// Most bytes of text of one document, aliases written out.
pub const DOCUMENT_TEXT_MAX: usize = 1024 * 1024;

/// One document of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) text: &'a str,
    /// Lines of the file before this document.
    pub(super) lines_before: u64,
}

/// Splits at `---` and `...`, which no YAML construct may hold at the start of a line. Documents without content
/// are left out.
pub(super) fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut lines_before) = (0, 0);
    let mut offset = 0;
    for (number, line) in (0_u64..).zip(text.split_inclusive('\n')) {
        let end = offset + line.len();
        if is_marker(line, "---") && offset > start {
            push_chunk(&mut chunks, &text[start..offset], lines_before);
            (start, lines_before) = (offset, number);
        } else if is_marker(line, "...") {
            push_chunk(&mut chunks, &text[start..offset], lines_before);
            (start, lines_before) = (end, number + 1);
        }
        offset = end;
    }
    push_chunk(&mut chunks, &text[start..], lines_before);
    chunks
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn push_chunk<'a>(chunks: &mut Vec<Chunk<'a>>, text: &'a str, lines_before: u64) {
    let empty = |line: &str| {
        let line = line.trim();
        line.is_empty() || line == "---" || line.starts_with(['#', '%'])
    };
    if !text.lines().all(empty) {
        chunks.push(Chunk { text, lines_before });
    }
}

/// Why a text gave no tree.
#[derive(Debug)]
pub(super) enum TreeError {
    /// Not YAML, or not JSON: the parser's words.
    Syntax { message: String, line: Option<u64> },
    /// A tab where YAML wants spaces.
    Tab { line: u64 },
    /// A limit: what was found, what is allowed.
    Limit { found: String, expected: String },
}

/// Reads one document. Fields given twice are noted in `report`.
pub(super) fn parse(text: &str, json: bool, report: &Report) -> Result<Value, TreeError> {
    let budget = Budget::default();
    if text.len() > DOCUMENT_BYTES_MAX {
        let expected = format!("at most {} KiB", DOCUMENT_BYTES_MAX / 1024);
        return Err(TreeError::Limit { found: format!("{} bytes", text.len()), expected });
    }
    // The parser keeps every open bracket in a list that it walks at each token: quadratic for hostile input.
    if text.bytes().filter(|b| matches!(b, b'[' | b'{')).count() > DOCUMENT_VALUES_MAX / 5 {
        let expected = format!("at most {}", DOCUMENT_VALUES_MAX / 5);
        return Err(TreeError::Limit { found: "too many opening brackets".to_owned(), expected });
    }
    let seed = Tree { budget: &budget, report, path: Path::root(), depth: 0 };
    let (message, line) = match if json { read_json(text, seed) } else { read_yaml(text, seed) } {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if let Some((found, expected)) = budget.broken.take() {
        return Err(TreeError::Limit { found, expected });
    }
    if !json && let Some(line) = tab_near(text, line) {
        return Err(TreeError::Tab { line });
    }
    Err(TreeError::Syntax { message: without_places(&message), line })
}

/// The parser's message and line.
type Refusal = (String, Option<u64>);

fn read_json(text: &str, seed: Tree<'_>) -> Result<Value, Refusal> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| (error.to_string(), u64::try_from(error.line()).ok()))
}

fn read_yaml(text: &str, seed: Tree<'_>) -> Result<Value, Refusal> {
    let refusal = |error: serde_yaml_ng::Error| {
        (error.to_string(), error.location().and_then(|at| u64::try_from(at.line()).ok()))
    };
    let mut documents = serde_yaml_ng::Deserializer::from_str(text);
    let Some(document) = documents.next() else { return Ok(Value::Null) };
    let value = seed.deserialize(document).map_err(refusal)?;
    // What follows a whole document is a slip of syntax: markers were split at before.
    match documents.next().map(IgnoredAny::deserialize) {
        None => Ok(value),
        Some(Err(error)) => Err(refusal(error)),
        Some(Ok(_)) => Err(("text after the end of the document".to_owned(), None)),
    }
}

/// The line of a tab in the indentation, at the place of a syntax error or the line before.
fn tab_near(text: &str, line: Option<u64>) -> Option<u64> {
    let line = usize::try_from(line?).ok()?;
    [line, line.saturating_sub(1)].into_iter().find_map(|n| {
        let indented = text.lines().nth(n.checked_sub(1)?)?.trim_start_matches(' ').starts_with('\t');
        if indented { u64::try_from(n).ok() } else { None }
    })
}

/// The parser's words without «at line 3 column 4»: its lines count from the document, ours from the file.
fn without_places(message: &str) -> String {
    let parts = message.split(", ").map(|part| part.split(" at line ").next().unwrap_or(part));
    let cut: String = parts.collect::<Vec<_>>().join(", ");
    cut.chars().take(200).collect()
}

#[derive(Default)]
struct Budget {
    values: Cell<usize>,
    text: Cell<usize>,
    broken: Cell<Option<(String, String)>>,
}

impl Budget {
    fn fail<E: de::Error>(&self, found: String, expected: String) -> E {
        self.broken.set(Some((found, expected)));
        E::custom("over a limit")
    }

    fn value<E: de::Error>(&self, depth: usize) -> Result<(), E> {
        self.values.set(self.values.get() + 1);
        if depth > DOCUMENT_DEPTH_MAX {
            let found = format!("nesting deeper than {DOCUMENT_DEPTH_MAX}");
            return Err(self.fail(found, format!("at most {DOCUMENT_DEPTH_MAX} levels")));
        }
        if self.values.get() > DOCUMENT_VALUES_MAX {
            let found = format!("more than {DOCUMENT_VALUES_MAX} values once aliases are written out");
            return Err(self.fail(found, format!("at most {DOCUMENT_VALUES_MAX}")));
        }
        Ok(())
    }

    fn text<E: de::Error>(&self, len: usize) -> Result<(), E> {
        self.text.set(self.text.get().saturating_add(len));
        if self.text.get() > DOCUMENT_TEXT_MAX {
            let found =
                format!("more than {} KiB of text once aliases are written out", DOCUMENT_TEXT_MAX / 1024);
            return Err(self.fail(found, format!("at most {} KiB", DOCUMENT_TEXT_MAX / 1024)));
        }
        Ok(())
    }
}

/// Builds the tree.
struct Tree<'a> {
    budget: &'a Budget,
    report: &'a Report,
    path: Path,
    depth: usize,
}

impl Tree<'_> {
    fn below(&self, path: Path) -> Tree<'_> {
        Tree { budget: self.budget, report: self.report, path, depth: self.depth + 1 }
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.budget.value(self.depth)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true, false, null, a list or an object with text keys")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    #[allow(clippy::cast_precision_loss)] // out of every range we accept; kept only to be shown
    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    #[allow(clippy::cast_precision_loss)] // as above
    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        // Neither JSON nor any field has a use for `.nan` and `.inf`.
        if let Some(number) = Number::from_f64(value) {
            return Ok(Value::Number(number));
        }
        self.report.add(&self.path, value.to_string(), "a finite number", None);
        Ok(Value::Null)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.budget.text(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(self.below(self.path.index(list.len())))? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.budget.text(key.len())?;
            let path = self.path.key(&key);
            let value = map.next_value_seed(self.below(path.clone()))?;
            if object.insert(key, value).is_some() {
                self.report.add(&path, "a field given twice", "it once", None);
            }
        }
        merge(&mut object);
        Ok(Value::Object(object))
    }
}

/// `<<: *defaults` as kubectl reads it: fields of the other object where this one has none.
fn merge(object: &mut Map<String, Value>) {
    let sources = match object.get("<<") {
        Some(Value::Object(_)) => object.remove("<<").map(|source| vec![source]),
        Some(Value::Array(list)) if list.iter().all(Value::is_object) => match object.remove("<<") {
            Some(Value::Array(list)) => Some(list),
            _ => None,
        },
        _ => None,
    };
    for source in sources.unwrap_or_default() {
        let Value::Object(source) = source else { continue };
        for (key, value) in source {
            object.entry(key).or_insert(value);
        }
    }
}
