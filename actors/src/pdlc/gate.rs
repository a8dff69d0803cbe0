//! The gate of a cluster: forecasts count only while the model beats the best baseline on forecasts that have come due.
//!
//! The best baseline is picked with hindsight, over the very rounds the model is judged by: no model is compared with a
//! baseline that happens to be weak here.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::VecDeque;

use super::baseline::BASELINES;

/// Rounds remembered.
pub const ROUNDS_MAX: usize = 48;
/// Rounds before anything is judged.
pub const ROUNDS_MIN: usize = 12;
/// Latest rounds by which an active model is judged.
const RECENT: usize = 6;
/// A model is promoted if its loss is at most this share of the best baseline's.
pub const PROMOTE_RATIO: f64 = 0.95;
/// Coverage of the P95 below which a model is not promoted.
const COVERAGE_PROMOTE: f64 = 0.80;
/// Coverage below which it does not stay: the loads are not those it was trained on.
const COVERAGE_KEEP: f64 = 0.70;

/// The forecasts of one step that have come due, over all nodes of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Round {
    /// Sum of the model's losses.
    pub model: f64,
    /// The same of each baseline; `None` if one of its forecasts is not known.
    pub baselines: [Option<f64>; BASELINES.len()],
    /// Values at or below their P95.
    pub covered: u32,
    /// Values in all.
    pub values: u32,
    /// Forecasts summed.
    pub forecasts: u32,
}

/// Sums over rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Balance {
    /// Mean loss of the model, in shares.
    pub model: f64,
    /// The same of each baseline that is known in all rounds.
    pub baselines: [Option<f64>; BASELINES.len()],
    /// Share of values at or below their P95.
    pub coverage: f64,
}

impl Balance {
    /// The best baseline and its loss.
    #[must_use]
    pub fn best(&self) -> Option<(&'static str, f64)> {
        let known = BASELINES.iter().zip(self.baselines).filter_map(|(name, loss)| Some((*name, loss?)));
        known.min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// Rounds of one model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    rounds: VecDeque<Round>,
}

/// What a record says about its model.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It may count.
    Wins(String),
    /// Nothing is proven.
    Open(String),
    /// It must not count.
    Loses(String),
}

impl Record {
    /// Adds a round that has come due.
    pub fn push(&mut self, round: Round) {
        self.rounds.push_back(round);
        if self.rounds.len() > ROUNDS_MAX {
            self.rounds.pop_front();
        }
    }

    /// Forgets all rounds.
    pub fn clear(&mut self) {
        self.rounds.clear();
    }

    /// Rounds remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rounds.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// Over the last `count` rounds; `None` without any.
    #[must_use]
    pub fn balance(&self, count: usize) -> Option<Balance> {
        let rounds = || self.rounds.iter().rev().take(count);
        let forecasts: u32 = rounds().map(|round| round.forecasts).sum();
        if forecasts == 0 {
            return None;
        }
        let forecasts = f64::from(forecasts);
        let sum = |at: usize| rounds().map(|round| round.baselines[at]).sum::<Option<f64>>();
        let values: u32 = rounds().map(|round| round.values).sum();
        let covered: u32 = rounds().map(|round| round.covered).sum();
        Some(Balance {
            model: rounds().map(|round| round.model).sum::<f64>() / forecasts,
            baselines: std::array::from_fn(|at| sum(at).map(|sum| sum / forecasts)),
            coverage: f64::from(covered) / f64::from(values.max(1)),
        })
    }

    /// What the rounds say. `active`: whether the model counts now; what promotes is more than what keeps.
    #[must_use]
    pub fn verdict(&self, active: bool) -> Verdict {
        let rounds = self.len();
        let judged = if active { RECENT } else { ROUNDS_MIN };
        let (Some(all), Some(recent)) = (self.balance(ROUNDS_MAX), self.balance(judged)) else {
            return Verdict::Open("no forecast has come due yet".into());
        };
        if !recent.model.is_finite() || !all.model.is_finite() {
            return Verdict::Loses("its loss is no number".into());
        }
        if rounds < judged {
            return Verdict::Open(format!("{rounds} of {judged} rounds have come due"));
        }
        let percent = |share: f64| share * 100.0;
        if recent.coverage < if active { COVERAGE_KEEP } else { COVERAGE_PROMOTE } {
            return Verdict::Loses(format!(
                "only {:.0} % of recent loads were at or below their forecast P95: they have drifted away from what \
                 the model knows",
                percent(recent.coverage)
            ));
        }
        let (Some((name, best)), Some((_, best_ever))) = (recent.best(), all.best()) else {
            return Verdict::Open("no baseline is known in all rounds".into());
        };
        let ratio = if best > 0.0 { recent.model / best } else { f64::INFINITY };
        let told = format!(
            "loss {:.4} against {best:.4} of the best baseline, {name}, over {judged} rounds",
            recent.model
        );
        if active {
            // Losing on a single short stretch is enough: what is lost by waiting is lost to somebody's placement.
            return if recent.model > best { Verdict::Loses(told) } else { Verdict::Wins(told) };
        }
        let wins = ratio <= PROMOTE_RATIO && all.model <= PROMOTE_RATIO * best_ever;
        if wins { Verdict::Wins(told) } else { Verdict::Open(told) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(model: f64, baseline: f64) -> Round {
        Round {
            model,
            baselines: [Some(baseline), Some(baseline * 2.0), Some(baseline * 3.0), None],
            covered: 95,
            values: 100,
            forecasts: 1,
        }
    }

    fn record(rounds: &[Round]) -> Record {
        let mut record = Record::default();
        rounds.iter().for_each(|round| record.push(*round));
        record
    }

    #[test]
    fn model_wins_only_after_enough_rounds_and_by_a_margin() {
        let few = record(&[round(0.1, 1.0); ROUNDS_MIN - 1]);
        assert!(matches!(few.verdict(false), Verdict::Open(why) if why.contains("11 of 12")));
        assert!(matches!(record(&[round(0.1, 1.0); ROUNDS_MIN]).verdict(false), Verdict::Wins(_)));
        assert!(matches!(record(&[round(0.97, 1.0); ROUNDS_MIN]).verdict(false), Verdict::Open(_)));
        assert!(matches!(record(&[round(1.5, 1.0); ROUNDS_MIN]).verdict(false), Verdict::Open(_)));
    }

    #[test]
    fn active_model_loses_on_a_short_stretch_on_lost_coverage_and_on_what_is_no_number() {
        let mut kept = record(&[round(0.1, 1.0); ROUNDS_MAX]);
        assert!(matches!(kept.verdict(true), Verdict::Wins(_)));
        (0..RECENT).for_each(|_| kept.push(round(1.1, 1.0)));
        assert!(matches!(kept.verdict(true), Verdict::Loses(why) if why.contains("last")));
        let drifted = record(&[Round { covered: 60, ..round(0.1, 1.0) }; ROUNDS_MIN]);
        assert!(matches!(drifted.verdict(true), Verdict::Loses(why) if why.contains("60 %")));
        assert!(matches!(record(&[round(f64::NAN, 1.0); 1]).verdict(true), Verdict::Loses(_)));
    }

    #[test]
    fn baseline_unknown_in_one_round_is_not_taken_for_the_best() {
        let seasonal = Round { baselines: [Some(1.0), None, None, Some(0.01)], ..round(0.5, 1.0) };
        let mut record = record(&[seasonal; ROUNDS_MIN]);
        assert!(matches!(record.verdict(false), Verdict::Open(_)), "0.01 beats it");
        record.push(Round { baselines: [Some(1.0), None, None, None], ..seasonal });
        assert!(matches!(record.verdict(false), Verdict::Wins(why) if why.contains("last")));
    }

    proptest! {
        #[test]
        fn model_that_is_never_better_than_a_baseline_is_never_promoted(
            rounds in proptest::collection::vec((0.001_f64..1.0, 1.0_f64..3.0), 0..200),
        ) {
            let mut record = Record::default();
            for (baseline, factor) in rounds {
                record.push(round(baseline * factor, baseline));
                prop_assert!(record.len() <= ROUNDS_MAX);
                prop_assert!(!matches!(record.verdict(false), Verdict::Wins(_)));
            }
        }
    }
}
