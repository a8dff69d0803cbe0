//! What members and commands find when they look after themselves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::WallTime;

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// All is well.
    Ok,
    /// It works, and will not for long, or not well.
    Warning,
    /// It does not work.
    Failed,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckView {
    /// Who checked: `CLUSTER/NODE`, a hub, or `here` for the machine of the command.
    pub member: String,
    /// What was checked, such as `udp hub 10.0.0.1:7400`.
    pub check: String,
    /// What it came to.
    pub verdict: Verdict,
    /// What was done.
    pub did: String,
    /// What was found.
    pub found: String,
    /// What to do, where something is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl CheckView {
    /// A check by somebody whose name is filled in later.
    #[must_use]
    pub fn new(check: impl Into<String>, verdict: Verdict, did: impl Into<String>, found: String) -> Self {
        Self { member: String::new(), check: check.into(), verdict, did: did.into(), found, next: None }
    }

    /// With what to do about it, unless all is well.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = (self.verdict != Verdict::Ok).then(|| next.into());
        self
    }
}

/// What one member has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckUp {
    /// Its wall clock.
    pub now: WallTime,
    /// Its checks.
    pub checks: Vec<CheckView>,
}

/// What the fleet has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoctorView {
    /// Wall clock of the member that answers.
    pub now: WallTime,
    /// Where hubs can be dialled, as far as known there: UDP addresses.
    pub hubs: Vec<String>,
    /// All checks.
    pub checks: Vec<CheckView>,
    /// Members that did not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
