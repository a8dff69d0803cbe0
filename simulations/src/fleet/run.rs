//! One run from begin to end: a scenario and a seed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::acts::micros;
use super::counts::Counts;
use super::planted::Planted;
use super::scenario::{Act, At, Scenario};
use super::series::{Sample, seconds};
use super::world::{Event, World};
use crate::invariant::{Invariant, Violation};
use crate::log::fold;

/// Time between looks once faults have stopped.
const LOOK: u64 = 500_000;

/// How a run is played.
#[derive(Debug, Clone, Copy, Default)]
pub struct Playing {
    /// Prints every event.
    pub trace: bool,
    /// Time between samples, in seconds; 0 takes none.
    pub sample_s: f64,
    /// A defect planted on purpose.
    pub planted: Option<Planted>,
}

/// How a run without violation went.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Of the event log and of all disks.
    pub digest: u64,
    /// What happened.
    pub counts: Counts,
    /// Virtual time from the end of faults until everything had converged, in seconds.
    pub converged_s: f64,
    /// Virtual time played, in seconds.
    pub played_s: f64,
    /// Most copies moved by one cluster within a second.
    pub moves_most: u64,
    /// Bytes and messages sent, by kind.
    pub traffic: Vec<(&'static str, u64, u64)>,
    /// The fleet over time.
    pub samples: Vec<Sample>,
    /// What happened, by seconds.
    pub timeline: Vec<(f64, String)>,
}

/// How a run failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("seed {seed}: {violation}\nlast events:\n{}", .tail.join("\n"))]
pub struct Failure {
    /// Which run.
    pub seed: u64,
    /// What was broken.
    pub violation: Violation,
    /// At which virtual time, in seconds.
    pub at_s: f64,
    /// The last lines of the event log.
    pub tail: Vec<String>,
}

/// All that is going to happen in a run: what the scenario says, and what its rates draw by lot.
#[must_use]
pub fn plan(scenario: &Scenario, seed: u64) -> (Vec<At>, f64) {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed_0fac);
    let (begin, (least, most)) = (scenario.faults.begin_s, scenario.faults.last_s);
    let end = begin + least + (most - least) * rng.f64();
    let mut acts = scenario.acts.clone();
    let mut draw =
        |per_minute: f64, make: &mut dyn FnMut(&mut fastrand::Rng) -> Act, rng: &mut fastrand::Rng| {
            if per_minute <= 0.0 {
                return;
            }
            let mut at = begin;
            loop {
                // Poisson arrivals.
                at += -(1.0 - rng.f64()).ln() * 60.0 / per_minute;
                if at >= end {
                    break;
                }
                acts.push(At { at_s: (at * 1e6).round() / 1e6, act: make(rng) });
            }
        };
    let total: u32 = scenario.faults.mix.iter().map(|(_, weight)| weight).sum();
    if total > 0 {
        let mix = &scenario.faults.mix;
        let mut fault = |rng: &mut fastrand::Rng| {
            let mut pick = rng.u32(0..total);
            let kind = mix.iter().find(|(_, weight)| {
                let here = pick < *weight;
                pick = pick.saturating_sub(*weight);
                here
            });
            let kind = kind.map_or(mix[0].0, |(kind, _)| *kind);
            Act::Fault { kind, lot: rng.u64(0..1 << 48) }
        };
        draw(scenario.faults.per_minute, &mut fault, &mut rng);
    }
    let mut user = |rng: &mut fastrand::Rng| Act::User { lot: rng.u64(0..1 << 48) };
    draw(scenario.users.requests_per_minute, &mut user, &mut rng);
    acts.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    let last = acts.last().map_or(0.0, |at| at.at_s);
    (acts, end.max(last + 0.1))
}

/// Plays `scenario` with `seed`.
///
/// # Errors
/// [`Failure`] with the promise that was broken and the last events.
pub fn run(scenario: &Scenario, seed: u64, playing: Playing) -> Result<Outcome, Box<Failure>> {
    let (acts, end_s) = plan(scenario, seed);
    run_plan(scenario, seed, &acts, end_s, playing)
}

/// Plays a plan, whatever the scenario's own rates say.
///
/// # Errors
/// As [`run`].
pub fn run_plan(
    scenario: &Scenario,
    seed: u64,
    acts: &[At],
    end_s: f64,
    playing: Playing,
) -> Result<Outcome, Box<Failure>> {
    let mut world = World::new(scenario, seed, playing.planted, playing.trace);
    world.series.every = micros(playing.sample_s);
    let played = catch_unwind(AssertUnwindSafe(|| play(&mut world, acts, end_s)));
    let violation = match played {
        Ok(Ok(converged_s)) => {
            let digest = digest(&world);
            return Ok(Outcome {
                digest,
                counts: world.counts,
                converged_s,
                played_s: seconds(world.now),
                moves_most: world.oracles.brakes.most,
                traffic: world.sizes.kinds().collect(),
                samples: world.series.samples,
                timeline: world.series.timeline,
            });
        }
        Ok(Err(violation)) => violation,
        Err(panic) => Violation::of_panic(&*panic),
    };
    Err(Box::new(Failure { seed, violation, at_s: seconds(world.now), tail: world.log.into_tail() }))
}

fn play(world: &mut World, acts: &[At], end_s: f64) -> Result<f64, Violation> {
    begin(world, acts, end_s);
    let ends = micros(end_s);
    let (within, rest) = (micros(world.scenario.ends.within_s), micros(world.scenario.ends.rest_s));
    let mut settled: Option<u64> = None;
    while let Some((at, event)) = world.queue.pop(u64::MAX) {
        world.now = at;
        let inspect = matches!(event, Event::Inspect);
        world.handle(event)?;
        if !inspect {
            continue;
        }
        world.check_queues()?;
        match world.unsettled() {
            None => {
                let since = *settled.get_or_insert(at);
                if at - since >= rest {
                    world.compare_snapshots()?;
                    return Ok(seconds(since.saturating_sub(ends)));
                }
            }
            Some(what) if at > ends + within => return Err(Violation::of(Invariant::Converges, what)),
            Some(_) => settled = None,
        }
        world.after(LOOK, Event::Inspect);
    }
    Err(Violation::of(Invariant::Converges, "nothing happens any more"))
}

fn begin(world: &mut World, acts: &[At], end_s: f64) {
    for at in 0..world.machines.len() {
        let span = world.rng.u64(0..500_000);
        let life = world.machines[at].life;
        world.after(span, Event::Start { at, life });
    }
    let faults = world.scenario.faults.clone();
    let most = |rng: &mut fastrand::Rng, most: u32| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let drawn = (f64::from(most) * rng.f64() * rng.f64()) as u32;
        drawn
    };
    world.net.loss = world.net.loss.max(most(&mut world.rng, faults.loss_per_million));
    world.net.repeat = most(&mut world.rng, faults.repeat_per_million);
    world.net.hold_up = most(&mut world.rng, faults.hold_up_per_million);
    // Users come when there is somebody to take what they bring.
    let first = micros(faults.begin_s) / 2;
    for _ in 0..world.scenario.users.apps {
        let lot = world.rng.u64(..);
        let span = world.rng.u64(first / 2..=first.max(1));
        world.after(span, Event::Act(Box::new(Act::NewApp { lot })));
    }
    for at in acts {
        world.after(micros(at.at_s), Event::Act(Box::new(at.act.clone())));
    }
    world.after(micros(end_s), Event::FaultsEnd);
    if world.series.every > 0 {
        world.after(0, Event::Sample);
    }
}

fn digest(world: &World) -> u64 {
    world.machines.iter().fold(world.log.digest(), |digest, machine| {
        let disk = &machine.disk;
        let text = format!("{:?} {:?} {:?}", disk.ledger.records, disk.election.records, disk.home.records);
        fold(digest, text.as_bytes())
    })
}
