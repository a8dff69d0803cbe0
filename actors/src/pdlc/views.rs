//! Models and gates as people read them, from what members have told.

use codeco_protocol::api::{LossView, ModelState, ModelView};
use codeco_protocol::gossip::{Fact, GateFact, GateState, LossPpm, ModelFact, WHOLE};
use codeco_protocol::units::BootTime;

use crate::fabric::Commons;

/// What is forecast.
const MODEL: &str = "load-forecast";

/// Gates first, by cluster, then learners, by name. `name` is this member's own.
#[must_use]
pub fn model_views(commons: &Commons, name: &str, now: BootTime) -> Vec<ModelView> {
    let (mut gates, mut learners) = (Vec::new(), Vec::new());
    for fact in ["gate", "learner"].into_iter().filter_map(|key| commons.own_fact(key)) {
        match fact {
            Fact::Gate(gate) if commons.own.cluster() == Some(&gate.cluster) => {
                gates.push(gate_view(&gate, 0));
            }
            Fact::Model(model) if commons.own.is_hub() && model.artefact.is_empty() => {
                learners.push(learner_view(&model, name, 0));
            }
            _ => {}
        }
    }
    commons.with_views(|views| {
        for view in views.iter() {
            let age_ms = view.age(now).0 / 1_000;
            // Only a member of a cluster speaks for its gate.
            if let Some(gate) = view.gate()
                && view.identity.cluster() == Some(&gate.cluster)
                && gate.check().is_ok()
            {
                gates.push(gate_view(gate, age_ms));
            }
            if let (true, Some(Fact::Model(model))) = (view.identity.is_hub(), view.fact("learner"))
                && model.check().is_ok()
            {
                let hub = view.member().map_or("hub", |member| member.name.as_str());
                learners.push(learner_view(model, hub, age_ms));
            }
        }
    });
    // Of two that speak for one cluster, the later: a former lead's word is the older one.
    gates.sort_by(|a: &ModelView, b| (&a.place, a.age_ms).cmp(&(&b.place, b.age_ms)));
    gates.dedup_by(|later, first| later.place == first.place);
    learners.sort_by(|a, b| a.place.cmp(&b.place));
    gates.extend(learners);
    gates
}

fn losses(losses: &[LossPpm]) -> Vec<LossView> {
    losses.iter().map(|(name, ppm)| LossView { name: name.clone(), loss: f64::from(*ppm) / 1e6 }).collect()
}

fn gate_view(gate: &GateFact, age_ms: u64) -> ModelView {
    ModelView {
        place: gate.cluster.to_string(),
        cluster: Some(gate.cluster.clone()),
        model: MODEL.into(),
        version: gate.version,
        trial: gate.trial,
        state: match gate.state {
            GateState::Off => ModelState::Off,
            GateState::NoModel => ModelState::NoModel,
            GateState::Shadow => ModelState::Shadow,
            GateState::Active => ModelState::Active,
        },
        since: gate.since,
        reason: gate.reason.clone(),
        rounds: Some(gate.rounds),
        coverage: (gate.rounds > 0).then(|| f64::from(gate.coverage) / f64::from(WHOLE)),
        windows: None,
        nodes: None,
        step_ms: None,
        losses: losses(&gate.losses),
        age_ms,
    }
}

fn learner_view(model: &ModelFact, name: &str, age_ms: u64) -> ModelView {
    let published = model.version > 0;
    ModelView {
        place: name.to_owned(),
        cluster: None,
        model: MODEL.into(),
        version: model.version,
        trial: None,
        state: ModelState::Learner,
        since: model.at,
        reason: model.doing.clone(),
        rounds: None,
        coverage: None,
        windows: published.then_some(model.windows),
        nodes: published.then_some(model.nodes),
        step_ms: Some(model.step_ms),
        losses: losses(&model.losses),
        age_ms,
    }
}
