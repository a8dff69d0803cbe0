//! Decisions as people read them, and the ring that keeps them.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use codeco_protocol::api;
use codeco_protocol::api::{
    Bid, BidAnswer, Candidate, DecisionLevel, DecisionView, FilterCount, InputAge, ScorePart,
};
use codeco_protocol::ids::{AppName, DecisionId, Namespace};
use codeco_protocol::messages::Profile;

use super::ring::RingFile;
use crate::clock::wall_now;
use crate::swm::decision::{Decision, Level};
use crate::swm::score;

/// Decisions kept in memory.
const KEPT: usize = 2_000;
/// Bytes of one segment on disk.
const SEGMENT: u64 = 4 << 20;
/// The policy that decides now; changes when the way of deciding does.
pub const POLICY: &str = "weighted-parts/1";

/// A decision as people read it.
#[must_use]
pub fn decision_view(decision: &Decision) -> DecisionView {
    let ranking = &decision.ranking;
    let feasible: Vec<&score::Candidate> =
        ranking.candidates.iter().filter(|candidate| candidate.filtered.is_none()).collect();
    let runner_up = decision.chosen.as_ref().and(feasible.get(1)).map(|candidate| candidate.name.clone());
    DecisionView {
        id: DecisionId::random(),
        at: wall_now(),
        level: match decision.level {
            Level::Cluster => DecisionLevel::Cluster,
            Level::Node => DecisionLevel::Node,
        },
        app: decision.app.clone(),
        namespace: decision.namespace.clone(),
        service: decision.replica.service.clone(),
        index: decision.replica.index,
        action: if decision.chosen.is_some() { "place".into() } else { "wait".into() },
        chosen: decision.chosen.clone(),
        reason: reason(decision, &feasible),
        runner_up,
        policy: POLICY.into(),
        profile: profile_of(decision.profile),
        token: decision.token.map(|token| token.to_string()),
        inputs: ranking
            .candidates
            .iter()
            .map(|candidate| InputAge {
                name: format!("facts of {}", candidate.name),
                age_ms: match candidate.age.0 {
                    u64::MAX => u64::MAX,
                    micros => micros / 1_000,
                },
            })
            .collect(),
        intents: decision.intents.clone(),
        filters: filters(&ranking.candidates),
        candidates: ranking
            .candidates
            .iter()
            .map(|candidate| candidate_view(candidate, decision.level))
            .collect(),
    }
}

fn candidate_view(candidate: &score::Candidate, level: Level) -> Candidate {
    let parts: Vec<ScorePart> = candidate
        .parts
        .iter()
        .filter(|part| level == Level::Cluster || part.name != "bid")
        .map(|part| ScorePart {
            name: part.name.into(),
            raw: part.raw,
            unit: part.unit.into(),
            normalized: part.normalized,
            weight: part.weight,
            contribution: part.contribution,
            note: part.note.unwrap_or_default().into(),
        })
        .collect();
    let bid = (level == Level::Cluster).then(|| bid_of(candidate)).flatten();
    let total = candidate.filtered.is_none().then_some(candidate.total);
    Candidate { name: candidate.name.clone(), total, parts, filtered_by: candidate.filtered.clone(), bid }
}

fn bid_of(candidate: &score::Candidate) -> Option<Bid> {
    let plain = |answer| Some(Bid { answer, age_ms: None, total: None });
    match &candidate.filtered {
        None => {
            let total = candidate.parts.iter().find(|part| part.name == "bid").map(|part| part.raw);
            Some(Bid { answer: BidAnswer::Yes, age_ms: None, total })
        }
        Some(why) if why.starts_with("did not bid") => plain(BidAnswer::Silent),
        Some(why) if why.starts_with("not in this round") || why.starts_with("its lead") => None,
        Some(_) => plain(BidAnswer::No),
    }
}

fn filters(candidates: &[score::Candidate]) -> Vec<FilterCount> {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for candidate in candidates {
        if let Some(reason) = &candidate.filtered {
            by_reason.entry(reason).or_default().push(candidate.name.clone());
        }
    }
    by_reason
        .into_iter()
        .map(|(reason, candidates)| FilterCount {
            reason: reason.to_owned(),
            count: u32::try_from(candidates.len()).unwrap_or(u32::MAX),
            candidates,
        })
        .collect()
}

/// Why it was decided, and in one clause why the winner won.
fn reason(decision: &Decision, feasible: &[&score::Candidate]) -> String {
    let cause = &decision.cause;
    match (decision.chosen.as_ref(), feasible) {
        (None, _) => format!("{cause}: {}", decision.ranking.reasons()),
        (Some(winner), [_]) => format!("{cause}: {winner} is the only candidate left"),
        (Some(winner), [first, second, ..]) => {
            let gap = |name: &str, of: &score::Candidate| {
                of.parts.iter().find(|part| part.name == name).map_or(0.0, |part| part.contribution)
            };
            let widest = first
                .parts
                .iter()
                .map(|part| (part.name, gap(part.name, second) - part.contribution))
                .max_by(|a, b| a.1.total_cmp(&b.1));
            match widest {
                Some((name, gain)) if gain > 0.0 => {
                    format!(
                        "{cause}: {winner} beats {} mostly by {name} ({gain:.3} of the score)",
                        second.name
                    )
                }
                _ => format!("{cause}: {winner} and {} score alike; the first by name is taken", second.name),
            }
        }
        (Some(winner), []) => format!("{cause}: {winner}"),
    }
}

/// The profile as people see it.
#[must_use]
pub fn profile_of(profile: Profile) -> api::Profile {
    match profile {
        Profile::Greenness => api::Profile::Greenness,
        Profile::Resilience => api::Profile::Resilience,
        Profile::Latency => api::Profile::Latency,
        Profile::Cost => api::Profile::Cost,
        Profile::Balanced => api::Profile::Balanced,
    }
}

/// The profile as machines pass it on.
#[must_use]
pub fn profile_on_wire(profile: api::Profile) -> Profile {
    match profile {
        api::Profile::Greenness => Profile::Greenness,
        api::Profile::Resilience => Profile::Resilience,
        api::Profile::Latency => Profile::Latency,
        api::Profile::Cost => Profile::Cost,
        api::Profile::Balanced => Profile::Balanced,
    }
}

/// The decisions of one member. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DecisionLog {
    inner: Arc<Mutex<(VecDeque<DecisionView>, RingFile)>>,
}

impl DecisionLog {
    /// Opens the log kept at `path`.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let (file, old) = RingFile::open::<DecisionView>(path, SEGMENT);
        let skip = old.len().saturating_sub(KEPT);
        Self { inner: Arc::new(Mutex::new((old.into_iter().skip(skip).collect(), file))) }
    }

    /// Keeps a decision.
    pub fn keep(&self, decision: &Decision) -> DecisionId {
        let view = decision_view(decision);
        let id = view.id;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.1.push(&view);
        inner.0.push_back(view);
        if inner.0.len() > KEPT {
            inner.0.pop_front();
        }
        id
    }

    /// Decisions, newest first: of one application, or of all.
    #[must_use]
    pub fn list(&self, app: Option<&(Namespace, AppName)>) -> Vec<DecisionView> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted =
            |view: &&DecisionView| app.is_none_or(|(ns, name)| view.namespace == *ns && view.app == *name);
        inner.0.iter().rev().filter(wanted).cloned().collect()
    }
}
