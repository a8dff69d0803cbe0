//! The fields of an object being read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Choice, Node, Quantity, Segment, nearest, quoted};

/// The fields of one object. Missing, `null` and (where [`Fields::filled`] is used) empty count as unset.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    pub(crate) node: Node<'a>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(object: &'a Map<String, Value>, node: Node<'a>) -> Self {
        Self { object, node }
    }

    /// Notes every field that is not in `known`. `elsewhere` says where a field of that name does belong.
    pub(crate) fn only(&self, known: &[&str], ignored: &[&str], elsewhere: &[(&str, &str)]) {
        for (key, value) in self.object {
            if self.node.report.is_full() {
                return;
            }
            if known.contains(&key.as_str()) || ignored.contains(&key.as_str()) {
                continue;
            }
            let place = elsewhere.iter().find(|(name, _)| name == key).map(|(_, place)| (*place).to_owned());
            let hint = place.or_else(|| nearest(key, known).map(|word| format!("did you mean {word:?}?")));
            let at = self.node.child(Segment::Key(key.clone()), value);
            at.report.add(&at.path, "an unknown field", format!("one of {}", known.join(", ")), hint);
        }
    }

    /// The fields not in `known`, untouched.
    pub(crate) fn rest(&self, known: &[&str]) -> Map<String, Value> {
        self.object
            .iter()
            .filter(|(key, _)| !known.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.object.get(key)?;
        (!value.is_null()).then(|| self.node.child(Segment::Key(key.to_owned()), value))
    }

    /// Like [`Fields::get`], and an empty text counts as unset: manifests in the wild carry them for classes.
    pub(crate) fn filled(&self, key: &str) -> Option<Node<'a>> {
        self.get(key).filter(|node| node.value.as_str() != Some(""))
    }

    /// The field, or a problem that it is missing.
    pub(crate) fn require(&self, key: &str, expected: &str) -> Option<Node<'a>> {
        let node = self.get(key);
        if node.is_none() {
            self.node.report.add(&self.node.path.key(key), "nothing", expected, None);
        }
        node
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(|node| node.text())
    }

    pub(crate) fn choice<C: Choice>(&self, key: &str) -> Option<C> {
        self.filled(key).and_then(|node| node.choice())
    }

    pub(crate) fn quantity<Q: Quantity>(&self, key: &str) -> Option<String> {
        self.filled(key).and_then(|node| node.quantity::<Q>())
    }

    /// Every field, in order of the keys.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'a String, Node<'a>)> + '_ {
        self.object.iter().map(|(key, value)| (key, self.node.child(Segment::Key(key.clone()), value)))
    }

    /// An object of texts (labels, selectors).
    pub(crate) fn texts(&self, key: &str) -> Option<BTreeMap<String, String>> {
        let fields = self.get(key)?.object()?;
        Some(fields.each().filter_map(|(key, node)| Some((key.clone(), node.text()?))).collect())
    }
}

/// Notes names that occur twice.
#[derive(Default)]
pub(crate) struct Unique(BTreeSet<String>);

impl Unique {
    pub(crate) fn check(&mut self, fields: &Fields<'_>, key: &str, name: &str, what: &str) {
        if !self.0.insert(name.to_owned()) {
            let (path, report) = (fields.node.path.key(key), fields.node.report);
            report.add(
                &path,
                format!("{} a second time", quoted(name)),
                format!("a name no other {what} has"),
                None,
            );
        }
    }
}
