//! One thing wrong with a manifest: where, what was found, what was expected.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing wrong with a manifest. Nothing of the file was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestError {
    /// Name of the file as the user gave it; `-` for standard input.
    pub file: String,
    /// Number of the document in the file, from 1; empty documents are not counted. 0 is the file as a whole.
    pub document: u32,
    /// Line in the file, from 1, where the parser knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Path of the field, such as `spec.codecoapp-msspec[1].serviceName`; empty for the document as a whole.
    pub field: String,
    /// What was found there; `nothing` if it is missing.
    pub found: String,
    /// What would have been right.
    pub expected: String,
    /// What to do, where there is more to say than what was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if self.document > 0 {
            write!(f, "document {}: ", self.document)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "found {}, expected {}", self.found, self.expected)?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestError {}
