//! Envelopes: lists and errors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::ManifestError;

/// A list as the API answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// Kind of the elements with `List` at its end.
    pub kind: String,
    /// Elements.
    pub items: Vec<T>,
    /// Who did not answer: without them the list is not whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl<T> List<T> {
    /// A whole list of `kind` (`App`, `Node`, …).
    #[must_use]
    pub fn new(kind: &str, items: Vec<T>) -> Self {
        Self { kind: format!("{kind}List"), items, warnings: Vec::new() }
    }
}

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// Stable code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// To which object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Everything wrong with a manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<ManifestError>,
}
