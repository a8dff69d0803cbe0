//! A lead's judge of forecasts: makes them for every node, waits until they come due, and says whether they may count.
//!
//! Two models at most: the active one, and one on trial beside it. A forecast that has come due is computed again from the
//! past it was made from, which is kept; a model is judged only by forecasts from steps after it came.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use codeco_protocol::gossip::{GateFact, GateState, HORIZON, LoadFact, LossPpm, ModelFact, WHOLE, WINDOW};
use codeco_protocol::ids::{ClusterName, MemberId};
use codeco_protocol::units::WallTime;

use super::baseline::{BASELINES, baselines};
use super::forecaster::Forecaster;
use super::gate::{ROUNDS_MAX, ROUNDS_MIN, Record, Round, Verdict};
use super::loss::loss;
use super::outlook::Outlook;
use crate::swm::advice::Peak;

/// Nodes whose forecasts are judged; those beyond get forecasts all the same.
pub const JUDGED_NODES_MAX: usize = 256;
/// Steps a summary may be old before its node has no forecast any more.
const FRESH_STEPS: u64 = 2;
/// Steps a round waits for nodes that are late.
const GRACE_STEPS: u64 = 2;
/// A summary that speaks of steps this far ahead is nonsense.
const AHEAD_STEPS_MAX: u64 = 2;

/// How far learning may go.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Learning {
    /// Nothing is measured, told, trained or forecast.
    Off,
    /// Forecasts are made and judged, and never count.
    Shadow,
    /// Forecasts count while they win.
    #[default]
    On,
}

/// What people should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgeNote {
    /// A model counts from now on.
    Active,
    /// A model does not count any more.
    RolledBack,
    /// A model was not taken.
    Refused,
    /// A node told nonsense.
    Nonsense,
}

/// Kind and sentence.
type Notes = Vec<(JudgeNote, String)>;

/// What a node says of its load.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// Which.
    pub node: MemberId,
    /// Its name, for people.
    pub name: &'a str,
    /// What it says.
    pub fact: &'a LoadFact,
}

#[derive(Debug, Clone, PartialEq)]
struct Tracked {
    version: u64,
    model: Forecaster,
    /// Only forecasts from later steps are counted.
    after: u64,
    record: Record,
    /// Rounds that are not complete yet, by the step their forecasts were made in.
    due: BTreeMap<u64, Round>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Node {
    newest: u64,
    /// Pasts from which forecasts were made that have not come due, with their step: processor and memory.
    made: VecDeque<(u64, [Outlook; 2])>,
    now: Option<[Outlook; 2]>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    learning: Learning,
    cluster: ClusterName,
    step_ms: u32,
    active: Option<Tracked>,
    trial: Option<Tracked>,
    /// Highest version that was taken or refused.
    tried: u64,
    nodes: BTreeMap<MemberId, Node>,
    /// Nodes that told nonsense and nothing sound since.
    distrusted: BTreeSet<MemberId>,
    since: WallTime,
    reason: String,
}

impl Judge {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(learning: Learning, cluster: ClusterName, step_ms: u32, now: WallTime) -> Self {
        let reason = match learning {
            Learning::Off => "learning is switched off",
            Learning::Shadow | Learning::On => "no hub has published a model yet",
        };
        Self {
            learning,
            cluster,
            step_ms,
            active: None,
            trial: None,
            tried: 0,
            nodes: BTreeMap::new(),
            distrusted: BTreeSet::new(),
            since: now,
            reason: reason.into(),
        }
    }

    /// Takes what is known now. Returns what people should hear of, in order.
    pub fn observe(&mut self, now: WallTime, seen: &[Seen<'_>], model: Option<&ModelFact>) -> Notes {
        let mut notes = Vec::new();
        if self.learning == Learning::Off {
            return notes;
        }
        let step = now.0 / u64::from(self.step_ms.max(1));
        if let Some(fact) = model {
            self.take_model(now, step, fact, &mut notes);
        }
        self.nodes.retain(|node, _| seen.iter().any(|seen| seen.node == *node));
        self.distrusted.retain(|node| seen.iter().any(|seen| seen.node == *node));
        for seen in seen {
            self.take_summary(now, step, seen, &mut notes);
        }
        self.complete_rounds(step);
        self.decide(now, &mut notes);
        notes
    }

    fn take_model(&mut self, now: WallTime, step: u64, fact: &ModelFact, notes: &mut Notes) {
        let judged_enough = self.trial.as_ref().is_none_or(|trial| trial.record.len() >= ROUNDS_MIN);
        if fact.version <= self.tried || fact.artefact.is_empty() || !judged_enough {
            return;
        }
        self.tried = fact.version;
        if fact.step_ms != self.step_ms {
            let (theirs, ours) = (fact.step_ms, self.step_ms);
            let told =
                format!("model {} is refused: step: found {theirs} ms, expected {ours} ms", fact.version);
            notes.push((JudgeNote::Refused, told));
            return;
        }
        match Forecaster::decode(fact) {
            Ok(model) => {
                let (version, record, due) = (fact.version, Record::default(), BTreeMap::new());
                self.trial = Some(Tracked { version, model, after: step, record, due });
                if self.active.is_none() {
                    self.stand(now, format!("model {version} is on trial"));
                }
            }
            Err(error) => {
                notes.push((JudgeNote::Refused, format!("model {} is refused: {error}", fact.version)));
            }
        }
    }

    fn take_summary(&mut self, now: WallTime, step: u64, seen: &Seen<'_>, notes: &mut Notes) {
        let fact = seen.fact;
        let outlooks = || Some([Outlook::of(&fact.cpu)?, Outlook::of(&fact.memory)?]);
        let found = match fact.check() {
            Err(error) => Err(error.to_string()),
            Ok(()) if fact.step_ms != self.step_ms => {
                Err(format!("step: found {} ms, expected {} ms", fact.step_ms, self.step_ms))
            }
            Ok(()) if fact.newest > step + AHEAD_STEPS_MAX => {
                Err(format!("newest: found step {}, expected at most {step}, which is now", fact.newest))
            }
            Ok(()) => outlooks().ok_or_else(|| "window: of the wrong length".to_owned()),
        };
        let outlooks = match found {
            Ok(outlooks) => outlooks,
            Err(error) => {
                self.nodes.remove(&seen.node);
                if self.distrusted.insert(seen.node) {
                    let why = format!("the summary of node {} is nonsense: {error}", seen.name);
                    let told = format!("{why}; it gets no forecast until it tells something sound");
                    notes.push((JudgeNote::Nonsense, told));
                    self.roll_back(now, &why, notes);
                }
                return;
            }
        };
        self.distrusted.remove(&seen.node);
        let judged = self.nodes.contains_key(&seen.node) || self.nodes.len() < JUDGED_NODES_MAX;
        let node = self.nodes.entry(seen.node).or_default();
        if fact.newest + FRESH_STEPS < step {
            node.now = None;
            return;
        }
        if fact.newest <= node.newest && node.now.is_some() {
            return;
        }
        node.newest = fact.newest;
        node.now = Some(outlooks);
        if !judged {
            return;
        }
        while let Some((made, pasts)) = node.made.front().copied() {
            if made + HORIZON as u64 > fact.newest {
                break;
            }
            node.made.pop_front();
            for (past, now) in pasts.iter().zip(&outlooks) {
                let Some(actual) = came(now, made, fact.newest) else { continue };
                for tracked in self.active.iter_mut().chain(&mut self.trial) {
                    if made > tracked.after {
                        let round = tracked.due.entry(made).or_default();
                        count(round, &tracked.model, past, &actual);
                    }
                }
            }
        }
        node.made.push_back((fact.newest, outlooks));
        if node.made.len() > HORIZON + 1 {
            node.made.pop_front();
        }
    }

    fn complete_rounds(&mut self, step: u64) {
        let complete = step.saturating_sub(HORIZON as u64 + GRACE_STEPS);
        for tracked in self.active.iter_mut().chain(&mut self.trial) {
            while let Some(first) = tracked.due.first_entry()
                && *first.key() <= complete
            {
                tracked.record.push(first.remove());
            }
        }
    }

    fn decide(&mut self, now: WallTime, notes: &mut Notes) {
        if let Some(active) = &self.active
            && let Verdict::Loses(why) = active.record.verdict(true)
        {
            self.roll_back(now, &why, notes);
        }
        let Some(trial) = &self.trial else { return };
        let verdict = trial.record.verdict(false);
        let Verdict::Wins(why) = verdict else {
            if self.active.is_none() && trial.record.len() >= ROUNDS_MIN {
                let (Verdict::Open(why) | Verdict::Loses(why) | Verdict::Wins(why)) = verdict;
                self.reason = format!("model {} does not win: {why}", trial.version);
            }
            return;
        };
        if self.learning == Learning::Shadow {
            self.reason =
                format!("model {} would be active, but learning is kept in shadow here", trial.version);
            return;
        }
        let recent = |tracked: &Tracked| tracked.record.balance(ROUNDS_MIN).map(|balance| balance.model);
        let better = match (&self.active, recent(trial)) {
            (None, _) => true,
            (Some(active), Some(ours)) => recent(active).is_some_and(|theirs| ours < theirs),
            (Some(_), None) => false,
        };
        if better && let Some(trial) = self.trial.take() {
            notes.push((JudgeNote::Active, format!("model {} is active: {why}", trial.version)));
            self.stand(now, format!("model {} wins: {why}", trial.version));
            self.active = Some(trial);
        }
    }

    fn roll_back(&mut self, now: WallTime, why: &str, notes: &mut Notes) {
        // Whatever was proven was proven before this.
        if let Some(trial) = &mut self.trial {
            trial.record.clear();
        }
        let Some(mut active) = self.active.take() else { return };
        notes.push((JudgeNote::RolledBack, format!("model {} is rolled back: {why}", active.version)));
        self.stand(now, format!("model {} was rolled back: {why}", active.version));
        if self.trial.is_none() {
            active.record.clear();
            active.due.clear();
            active.after = now.0 / u64::from(self.step_ms.max(1));
            self.trial = Some(active);
        }
    }

    fn stand(&mut self, now: WallTime, reason: String) {
        self.since = now;
        self.reason = reason;
    }

    fn state(&self) -> GateState {
        match (self.learning, &self.active, &self.trial) {
            (Learning::Off, ..) => GateState::Off,
            (_, Some(_), _) => GateState::Active,
            (_, None, Some(_)) => GateState::Shadow,
            (_, None, None) => GateState::NoModel,
        }
    }

    fn shown(&self) -> Option<&Tracked> {
        self.active.as_ref().or(self.trial.as_ref())
    }

    /// The model for the record of decisions, with how far it is trusted; empty where learning is off.
    #[must_use]
    pub fn label(&self) -> String {
        match (self.state(), self.shown()) {
            (GateState::Off, _) => String::new(),
            (GateState::Active, Some(tracked)) => format!("load-forecast/{}, active", tracked.version),
            (_, Some(tracked)) => format!("load-forecast/{}, in shadow: it does not count", tracked.version),
            (_, None) => "load-forecast: no model yet".into(),
        }
    }

    /// Forecasts that count, by node; `None` while none may.
    #[must_use]
    pub fn peaks(&self, now: WallTime) -> Option<BTreeMap<MemberId, Peak>> {
        let active = self.active.as_ref()?;
        let step = now.0 / u64::from(self.step_ms.max(1));
        let fresh = self.nodes.iter().filter(|(_, node)| node.newest + FRESH_STEPS >= step);
        let peak = |outlook: &Outlook| Some(f64::from(active.model.forecast(outlook)?.peak().min(1.0)));
        let peaks = fresh.filter_map(|(id, node)| {
            let [cpu, memory] = node.now.as_ref()?;
            Some((*id, Peak { cpu: peak(cpu)?, memory: peak(memory)? }))
        });
        Some(peaks.collect())
    }

    /// What is told of this gate.
    #[must_use]
    pub fn fact(&self) -> GateFact {
        let shown = self.shown();
        let balance = shown.and_then(|tracked| tracked.record.balance(ROUNDS_MAX));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let (losses, coverage) = balance.map_or((Vec::new(), 0), |balance| {
            (losses(balance.model, &balance.baselines), (balance.coverage * f64::from(WHOLE)) as u16)
        });
        let mut reason = self.reason.clone();
        reason.truncate(reason.floor_char_boundary(280));
        GateFact {
            cluster: self.cluster.clone(),
            state: self.state(),
            version: shown.map_or(0, |tracked| tracked.version),
            trial: self.active.as_ref().and(self.trial.as_ref()).map(|trial| trial.version),
            since: self.since,
            reason,
            rounds: u32::try_from(shown.map_or(0, |tracked| tracked.record.len())).unwrap_or(u32::MAX),
            losses,
            coverage,
        }
    }
}

/// The losses of a model and of the baselines that are known, in millionths.
#[must_use]
pub fn losses(model: f64, baselines: &[Option<f64>; BASELINES.len()]) -> Vec<LossPpm> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let ppm = |loss: f64| (loss * 1e6).round().clamp(0.0, f64::from(u32::MAX)) as u32;
    let known =
        BASELINES.iter().zip(baselines).filter_map(|(name, loss)| Some(((*name).to_owned(), ppm((*loss)?))));
    std::iter::once(("model".to_owned(), ppm(model))).chain(known).collect()
}

/// What came in the [`HORIZON`] steps after `made`, as far as a window that ends with `newest` shows all of it.
fn came(now: &Outlook, made: u64, newest: u64) -> Option<[f32; HORIZON]> {
    let back = usize::try_from(newest.checked_sub(made + 1)?).ok()?;
    let first = (WINDOW - 1).checked_sub(back)?;
    now.window.get(first..first + HORIZON)?.try_into().ok()
}

fn count(round: &mut Round, model: &Forecaster, past: &Outlook, actual: &[f32; HORIZON]) {
    let fresh = round.forecasts == 0;
    let (ours, covered) = model.forecast(past).map_or((f64::NAN, 0), |forecast| loss(&forecast, actual));
    round.model += ours;
    round.covered += covered;
    round.values += u32::try_from(HORIZON).unwrap_or(u32::MAX);
    round.forecasts += 1;
    let theirs = baselines(past).map(|forecast| forecast.map(|forecast| loss(&forecast, actual).0));
    for (sum, loss) in round.baselines.iter_mut().zip(theirs) {
        *sum = if fresh { loss } else { sum.zip(loss).map(|(sum, loss)| sum + loss) };
    }
}

#[cfg(test)]
mod tests;
