//! Why a replica is where it is: inputs with their age, filters, and a score per candidate whose parts add up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::Profile;
use crate::ids::{AppName, DecisionId, Namespace, ServiceName};
use crate::units::WallTime;

/// Largest error of a sum, relative to the largest amount in it.
const SUM_ERROR_MAX: f64 = 1e-9;
/// The age of an input nobody has told the age of.
pub const AGE_UNKNOWN: u64 = u64::MAX;

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DecisionLevel {
    /// The home: which cluster.
    Cluster,
    /// The lead: which node.
    Node,
}

/// How old an input was when it was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputAge {
    /// Whose view.
    pub name: String,
    /// Age; [`AGE_UNKNOWN`] if nobody knows.
    pub age_ms: u64,
}

/// Candidates one filter took out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilterCount {
    /// Why.
    pub reason: String,
    /// How many.
    pub count: u32,
    /// Some of them by name.
    #[serde(default)]
    pub candidates: Vec<String>,
}

/// One part of a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScorePart {
    /// What is weighed.
    pub name: String,
    /// What was measured.
    pub raw: f64,
    /// Unit of that.
    pub unit: String,
    /// Without unit, comparable between parts.
    pub normalized: f64,
    /// Weight under the profile.
    pub weight: f64,
    /// `normalized` times `weight`: what the total is made of.
    pub contribution: f64,
    /// What there is to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl ScorePart {
    /// A part whose contribution is `normalized` times `weight`.
    #[must_use]
    pub fn new(name: &str, (raw, unit): (f64, &str), normalized: f64, weight: f64) -> Self {
        let (name, unit) = (name.to_owned(), unit.to_owned());
        Self { name, raw, unit, normalized, weight, contribution: normalized * weight, note: String::new() }
    }
}

/// What a candidate answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BidAnswer {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// It did not answer in time.
    Silent,
}

/// A candidate's bid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bid {
    /// What it answered.
    pub answer: BidAnswer,
    /// Age of its own view when it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Its own score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
}

/// A place that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Cluster or node.
    pub name: String,
    /// Score: the sum of the contributions. `None` where a filter came first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    /// Parts of the score.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ScorePart>,
    /// Filter that took it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filtered_by: Option<String>,
    /// Its bid, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bid: Option<Bid>,
}

/// A decision about one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionView {
    /// Id, also of its trace.
    #[schemars(with = "String")]
    pub id: DecisionId,
    /// When.
    pub at: WallTime,
    /// Who decided.
    pub level: DecisionLevel,
    /// Application.
    #[schemars(with = "String")]
    pub app: AppName,
    /// Namespace.
    #[schemars(with = "String")]
    pub namespace: Namespace,
    /// Service.
    #[schemars(with = "String")]
    pub service: ServiceName,
    /// Number of the copy.
    pub index: u32,
    /// What was done, such as `Offer`, `Reserve`, `Wait`.
    pub action: String,
    /// Winner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// Second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_up: Option<String>,
    /// Policy and its version.
    pub policy: String,
    /// What was weighed most.
    pub profile: Profile,
    /// One sentence why.
    pub reason: String,
    /// Token of the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Views used.
    #[serde(default)]
    pub inputs: Vec<InputAge>,
    /// What the application's intents did to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intents: Vec<String>,
    /// Filters that took somebody out.
    #[serde(default)]
    pub filters: Vec<FilterCount>,
    /// Everybody that was looked at.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
}

/// A score that is not the sum of its parts.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("candidate {candidate}: {what} is {found}, but its parts make {computed}")]
pub struct SumError {
    /// Which candidate.
    pub candidate: String,
    /// The total or one contribution.
    pub what: String,
    /// The number in the record.
    pub found: f64,
    /// The number it should be.
    pub computed: f64,
}

impl DecisionView {
    /// Checks that every contribution is its weight times its normalised value, and that contributions add up to
    /// the total, each within 10⁻⁹ of the largest amount involved.
    ///
    /// # Errors
    /// The first candidate whose numbers do not add up.
    pub fn check_sums(&self) -> Result<(), SumError> {
        self.candidates.iter().try_for_each(Candidate::check_sum)
    }
}

impl Candidate {
    fn check_sum(&self) -> Result<(), SumError> {
        let error =
            |what: String, found, computed| SumError { candidate: self.name.clone(), what, found, computed };
        for part in &self.parts {
            let product = part.normalized * part.weight;
            if !near(part.contribution, product, product.abs()) {
                return Err(error(format!("contribution {}", part.name), part.contribution, product));
            }
        }
        let Some(total) = self.total else {
            return match self.parts.is_empty() {
                true => Ok(()),
                false => Err(error("a missing total".to_owned(), 0.0, self.sum())),
            };
        };
        let largest = self.parts.iter().map(|part| part.contribution.abs()).fold(0.0, f64::max);
        if near(total, self.sum(), largest) {
            Ok(())
        } else {
            Err(error("total".to_owned(), total, self.sum()))
        }
    }

    fn sum(&self) -> f64 {
        self.parts.iter().map(|part| part.contribution).sum()
    }
}

/// Never true for NaN, so that a score that is no number is an error.
fn near(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= SUM_ERROR_MAX * scale.max(a.abs()).max(b.abs())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn part(normalized: f64, weight: f64) -> ScorePart {
        ScorePart::new("load", (1.0, "%"), normalized, weight)
    }

    fn decision(total: Option<f64>, parts: Vec<ScorePart>) -> DecisionView {
        let candidate = Candidate { name: "n1".to_owned(), total, parts, filtered_by: None, bid: None };
        DecisionView {
            id: DecisionId(1),
            at: WallTime(0),
            level: DecisionLevel::Node,
            app: AppName::new("a").unwrap(),
            namespace: Namespace::new("default").unwrap(),
            service: ServiceName::new("s").unwrap(),
            index: 0,
            action: "Reserve".to_owned(),
            chosen: Some("n1".to_owned()),
            runner_up: None,
            policy: "heuristic/1".to_owned(),
            profile: Profile::Balanced,
            reason: String::new(),
            token: None,
            inputs: Vec::new(),
            intents: Vec::new(),
            filters: Vec::new(),
            candidates: vec![candidate],
        }
    }

    #[test]
    fn decision_whose_parts_add_up_is_right_and_any_other_is_named() {
        assert_eq!(decision(Some(0.1 + 0.2), vec![part(0.1, 1.0), part(1.0, 0.2)]).check_sums(), Ok(()));
        assert_eq!(decision(None, Vec::new()).check_sums(), Ok(()), "filtered");
        let error = decision(Some(0.4), vec![part(0.1, 1.0), part(1.0, 0.2)]).check_sums().unwrap_err();
        assert_eq!((error.candidate.as_str(), error.what.as_str()), ("n1", "total"));
        assert!(decision(Some(f64::NAN), vec![part(f64::NAN, 1.0)]).check_sums().is_err());
        assert!(decision(None, vec![part(1.0, 1.0)]).check_sums().is_err());
        let mut wrong = part(0.5, 0.5);
        wrong.contribution = 0.5;
        assert!(decision(Some(0.5), vec![wrong]).check_sums().is_err());
    }

    #[test]
    fn decision_written_as_json_and_read_again_is_the_same_and_camel_case() {
        let decision = decision(Some(0.5), vec![part(0.5, 1.0)]);
        let text = serde_json::to_string(&decision).unwrap();
        assert_eq!(serde_json::from_str::<DecisionView>(&text).unwrap(), decision);
        assert!(!text.contains('_'), "{text}");
    }
}
