//! What can happen to a cluster, and what its members should make of it.

use codeco_protocol::gossip::{Liveness, RingConfig};
use codeco_protocol::units::Micros;

use super::world::{Belief, World};

/// How long anything may take before it counts as never.
pub(super) const PATIENCE: Micros = Micros::from_secs(60);
pub(super) const LOOK: Micros = Micros::from_millis(10);
/// More members than this are not started all at once, but as if they had met before.
const START_MAX: usize = 1_000;
const KILL: &str = "kill";
const KILL_LOSS: &str = "kill, 10 % loss";
/// So many times more members die in a churn.
pub const CHURN: usize = 8;

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What happened.
    pub scenario: &'static str,
    /// Times until all concerned knew, in seconds, sorted.
    pub seconds: Vec<f64>,
    /// Living members called dead.
    pub false_deaths: usize,
    /// Bytes each member sent in a second, where nothing happened.
    pub bytes: Option<f64>,
}

impl Row {
    fn new(scenario: &'static str) -> Self {
        Self { scenario, seconds: Vec::new(), false_deaths: 0, bytes: None }
    }

    /// A quantile of the times.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        quantile(&self.seconds, share)
    }
}

/// A quantile of what is sorted.
pub(super) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied()
}

/// How much of each scenario is played.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Kills, one after the other.
    pub kills: usize,
    /// Minutes in which nobody may be called dead.
    pub minutes: u64,
}

/// Plays every scenario at one size.
#[must_use]
pub fn run(nodes: usize, config: RingConfig, seed: u64, effort: Effort) -> Vec<Row> {
    let mut rows = Vec::new();
    run_each(nodes, config, seed, effort, None, &mut |row| rows.push(row));
    rows
}

/// The same, or only what begins with `only`; each row is told when it is known.
pub fn run_each(
    nodes: usize,
    config: RingConfig,
    seed: u64,
    effort: Effort,
    only: Option<&str>,
    told: &mut dyn FnMut(Row),
) {
    let all: [(&str, &dyn Fn() -> Vec<Row>); 9] = [
        ("join", &|| vec![join(nodes, config, seed)]),
        ("idle", &|| vec![idle(nodes, config, seed)]),
        (KILL, &|| vec![kills(nodes, config, seed, effort, 0)]),
        (KILL_LOSS, &|| vec![kills(nodes, config, seed, effort, 100_000)]),
        ("churn", &|| vec![churn(nodes, config, seed, effort)]),
        ("10 % loss", &|| vec![lossy(nodes, config, seed, effort)]),
        ("pauses up to 2 s", &|| vec![held_up(nodes, config, seed, effort)]),
        ("one-way cut of a pair", &|| vec![one_way(nodes, config, seed, effort)]),
        ("halves", &|| halves(nodes, config, seed).to_vec()),
    ];
    for (name, play) in all {
        if only.is_none_or(|only| name.starts_with(only)) {
            play().into_iter().for_each(&mut *told);
        }
    }
}

pub(super) fn seconds(time: Micros) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let micros = time.0 as f64;
    micros / 1e6
}

fn all_see_all(world: &World) -> bool {
    let (up, down): (Vec<usize>, Vec<usize>) = (0..world.len()).partition(|at| world.is_up(*at));
    up.iter().all(|a| {
        let wrongly = down.iter().filter(|b| world.believes(*a, **b) == Some(Liveness::Alive)).count();
        world.counts(*a).0 - wrongly == up.len() - 1
    })
}

/// Plays until `done`; how long that took.
fn until(world: &mut World, done: impl Fn(&World) -> bool) -> Option<Micros> {
    let began = world.now();
    while !done(world) {
        if world.now().since(began) > PATIENCE {
            return None;
        }
        world.play(LOOK);
    }
    Some(world.now().since(began))
}

/// A cluster that has settled.
pub(super) fn settled(nodes: usize, config: RingConfig, seed: u64) -> World {
    let mut world =
        if nodes > START_MAX { World::met(nodes, config, seed) } else { World::new(nodes, config, seed) };
    world.play(Micros::from_secs(15));
    world.take_beliefs();
    world
}

fn false_deaths(world: &mut World) -> usize {
    let beliefs = world.take_beliefs();
    beliefs.iter().filter(|b| b.liveness == Liveness::Dead && world.is_up(b.about)).count()
}

fn join(nodes: usize, config: RingConfig, seed: u64) -> Row {
    let mut row = Row::new("join");
    if nodes > START_MAX {
        return row;
    }
    let mut world = World::new(nodes, config, seed);
    row.seconds.extend(until(&mut world, all_see_all).map(seconds));
    row
}

fn idle(nodes: usize, config: RingConfig, seed: u64) -> Row {
    let mut row = Row::new("idle");
    let mut world = settled(nodes, config, seed);
    let before = world.bytes();
    world.play(Micros::from_secs(60));
    #[allow(clippy::cast_precision_loss)]
    let each = (world.bytes() - before) as f64 / 60.0 / nodes as f64;
    row.bytes = Some(each);
    row.false_deaths = false_deaths(&mut world);
    row
}

fn kills(nodes: usize, config: RingConfig, seed: u64, effort: Effort, loss: u32) -> Row {
    let mut row = Row::new(if loss == 0 { KILL } else { KILL_LOSS });
    let mut world = settled(nodes, config, seed);
    world.lose(loss);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xdead);
    for _ in 0..effort.kills {
        world.play(Micros(rng.u64(0..2_000_000)));
        let victim = rng.usize(..nodes);
        world.kill(victim);
        let known = |world: &World| {
            (0..nodes).filter(|at| *at != victim).all(|at| world.believes(at, victim) == Some(Liveness::Dead))
        };
        row.seconds.extend(until(&mut world, known).map(seconds));
        world.restart(victim);
        until(&mut world, all_see_all);
        world.play(Micros::from_secs(6));
        // Those of the victim were right, whatever it does now.
        let wrong = world.take_beliefs();
        row.false_deaths +=
            wrong.iter().filter(|b| b.liveness == Liveness::Dead && b.about != victim).count();
    }
    row.seconds.sort_by(f64::total_cmp);
    row
}

/// One member after the other is killed and started again, without a pause in which the cluster could come to rest: an
/// update that goes through it node by node, at its worst.
fn churn(nodes: usize, config: RingConfig, seed: u64, effort: Effort) -> Row {
    let mut row = Row::new("churn");
    let mut world = settled(nodes, config, seed);
    for victim in (0..nodes).cycle().take(effort.kills * CHURN) {
        world.kill(victim);
        let known = |world: &World| {
            (0..nodes).filter(|at| *at != victim).all(|at| world.believes(at, victim) == Some(Liveness::Dead))
        };
        row.seconds.extend(until(&mut world, known).map(seconds));
        let wrong = world.take_beliefs();
        row.false_deaths +=
            wrong.iter().filter(|b| b.liveness == Liveness::Dead && b.about != victim).count();
        world.restart(victim);
        if until(&mut world, all_see_all).is_none() {
            // It has come back, and somebody never believes it.
            row.false_deaths += 1;
        }
        row.false_deaths += false_deaths(&mut world);
    }
    row.seconds.sort_by(f64::total_cmp);
    row
}

fn lossy(nodes: usize, config: RingConfig, seed: u64, effort: Effort) -> Row {
    let mut row = Row::new("10 % loss");
    let mut world = settled(nodes, config, seed);
    world.lose(100_000);
    world.play(Micros::from_secs(60 * effort.minutes));
    row.false_deaths = false_deaths(&mut world);
    row
}

/// Every process is held up now and then, as on a machine with twice the work it can do.
fn held_up(nodes: usize, config: RingConfig, seed: u64, effort: Effort) -> Row {
    let mut row = Row::new("pauses up to 2 s");
    let mut world = settled(nodes, config, seed);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xbeef);
    for _ in 0..60 * effort.minutes {
        hold_some(&mut world, &mut rng);
        world.play(Micros::from_secs(1));
    }
    row.false_deaths = false_deaths(&mut world);
    row
}

/// Every twentieth, for up to two seconds.
pub(super) fn hold_some(world: &mut World, rng: &mut fastrand::Rng) {
    for _ in 0..world.len().div_ceil(20) {
        let at = rng.usize(..world.len());
        // Not twice in a row: that would be a longer pause.
        if !world.is_held(at) {
            world.hold(at, Micros(rng.u64(500_000..2_000_000)));
        }
    }
}

fn one_way(nodes: usize, config: RingConfig, seed: u64, effort: Effort) -> Row {
    let mut row = Row::new("one-way cut of a pair");
    let mut world = settled(nodes, config, seed);
    world.deafen(0, 1);
    world.play(Micros::from_secs(60 * effort.minutes));
    row.false_deaths = false_deaths(&mut world);
    row
}

/// Until each half has given the other up, and after the heal until all see all.
fn halves(nodes: usize, config: RingConfig, seed: u64) -> [Row; 2] {
    let mut row = Row::new("halves: both know");
    let mut heal = Row::new("halves: heal, all see all");
    let mut world = settled(nodes, config, seed);
    let half = nodes / 2;
    world.part(|at| u8::from(at >= half));
    let parted = |world: &World| {
        // Whoever has given up fewer than there are on the other side need not be asked whom.
        let enough = |a| world.counts(a).2 >= if a < half { nodes - half } else { half };
        let across = |a: usize| if a < half { half..nodes } else { 0..half };
        (0..nodes).all(enough)
            && (0..nodes).all(|a| across(a).all(|b| world.believes(a, b) == Some(Liveness::Dead)))
    };
    // Looked at as they come: there are as many as pairs.
    let mut wrong = 0;
    let mut count = |world: &mut World| {
        let beliefs = world.take_beliefs();
        let own_side = |b: &&Belief| (b.observer < half) == (b.about < half);
        wrong += beliefs.iter().filter(own_side).filter(|b| b.liveness == Liveness::Dead).count();
    };
    let began = world.now();
    while world.now().since(began) <= PATIENCE {
        if parted(&world) {
            row.seconds.push(seconds(world.now().since(began)));
            break;
        }
        world.play(LOOK);
        count(&mut world);
    }
    world.play(Micros::from_secs(20));
    count(&mut world);
    row.false_deaths = wrong;
    world.heal();
    heal.seconds.extend(until(&mut world, all_see_all).map(seconds));
    [row, heal]
}
