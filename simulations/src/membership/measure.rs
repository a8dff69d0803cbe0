//! Figures of a cluster of any size: how fast its members learn what happens, what that costs, and whom they wrong.

use std::time::{Duration, Instant};

use codeco_protocol::gossip::{Liveness, RingConfig};
use codeco_protocol::units::Micros;

use super::scenarios::{LOOK, PATIENCE, hold_some, quantile, seconds, settled};
use super::world::{Belief, World};

/// What is thought then may still be said for so long.
const AFTERMATH: Micros = Micros::from_secs(10);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Kills, one after the other, and as many restarts.
    pub kills: usize,
    /// Seconds in which nothing happens.
    pub rest: u64,
    /// Seconds with 10 % loss.
    pub loss: u64,
    /// Seconds in each of which every twentieth process is held up. Each vote goes to everybody, so the time this takes
    /// grows with the square of the number of members.
    pub pauses: u64,
}

/// Figures of one cluster; times in seconds, sorted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures {
    /// Members.
    pub nodes: usize,
    /// From each kill until the last survivor knew.
    pub kills: Vec<f64>,
    /// From each kill until each survivor knew.
    pub kills_each: Vec<f64>,
    /// From each restart until the last of the others knew.
    pub restarts: Vec<f64>,
    /// Kills and restarts that somebody did not know of in a minute.
    pub missed: usize,
    /// Bytes each member sent in a second of rest.
    pub bytes: f64,
    /// Living members called dead, by how many others: while nothing but kills happened.
    pub false_deaths: usize,
    /// The same under loss.
    pub false_deaths_loss: usize,
    /// The same while processes were held up.
    pub false_deaths_pauses: usize,
}

impl Figures {
    /// A quantile of times.
    #[must_use]
    pub fn quantile(times: &[f64], share: f64) -> Option<f64> {
        quantile(times, share)
    }
}

/// Plays and measures.
#[must_use]
pub fn measure(nodes: usize, config: RingConfig, seed: u64, extent: Extent) -> Figures {
    let mut figures = Figures { nodes, ..Figures::default() };
    let mut world = settled(nodes, config, seed);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xf19);
    let before = world.bytes();
    world.play(Micros::from_secs(extent.rest));
    #[allow(clippy::cast_precision_loss)]
    let node_seconds = (extent.rest.max(1) * nodes as u64) as f64;
    #[allow(clippy::cast_precision_loss)]
    let bytes = (world.bytes() - before) as f64;
    figures.bytes = bytes / node_seconds;
    figures.false_deaths += wrong(&world.take_beliefs(), None);
    for _ in 0..extent.kills {
        world.play(Micros(rng.u64(0..2_000_000)));
        figures.false_deaths += wrong(&world.take_beliefs(), None);
        let victim = rng.usize(..nodes);
        world.kill(victim);
        let known = until_known(&mut world, victim, Liveness::Dead, &mut figures);
        figures.kills.extend(known.last());
        figures.kills_each.extend(known);
        world.play(Micros::from_secs(1));
        world.restart(victim);
        let known = until_known(&mut world, victim, Liveness::Alive, &mut figures);
        figures.restarts.extend(known.last());
        world.play(Micros::from_secs(6));
        figures.false_deaths += wrong(&world.take_beliefs(), Some(victim));
    }
    for times in [&mut figures.kills, &mut figures.kills_each, &mut figures.restarts] {
        times.sort_by(f64::total_cmp);
    }
    world.lose(100_000);
    world.play(Micros::from_secs(extent.loss));
    world.lose(0);
    world.play(AFTERMATH);
    figures.false_deaths_loss = wrong(&world.take_beliefs(), None);
    for _ in 0..extent.pauses {
        hold_some(&mut world, &mut rng);
        world.play(Micros::from_secs(1));
        figures.false_deaths_pauses += wrong(&world.take_beliefs(), None);
    }
    world.play(AFTERMATH);
    figures.false_deaths_pauses += wrong(&world.take_beliefs(), None);
    figures
}

/// Deaths believed, but that of `victim`.
fn wrong(beliefs: &[Belief], victim: Option<usize>) -> usize {
    beliefs.iter().filter(|b| b.liveness == Liveness::Dead && Some(b.about) != victim).count()
}

/// Plays until all others believe this of a member; how long that took each, in the order in which they did.
fn until_known(world: &mut World, about: usize, what: Liveness, figures: &mut Figures) -> Vec<f64> {
    let began = world.now();
    let mut knows = vec![false; world.len()];
    let mut times = Vec::new();
    while times.len() + 1 < world.len() {
        if world.now().since(began) > PATIENCE {
            figures.missed += 1;
            return Vec::new();
        }
        world.play(LOOK);
        let beliefs = world.take_beliefs();
        figures.false_deaths += wrong(&beliefs, Some(about));
        for belief in beliefs.iter().filter(|b| b.about == about && b.observer != about && b.liveness == what)
        {
            if !std::mem::replace(&mut knows[belief.observer], true) {
                times.push(seconds(belief.at.since(began)));
            }
        }
    }
    times
}

/// What a simulation of rest costs this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rest {
    /// Virtual time.
    pub played: Micros,
    /// Real time.
    pub took: Duration,
    /// Microseconds of processor time for one member in one second; of real time where that cannot be told.
    pub micros: f64,
}

/// Plays a settled cluster in which nothing happens.
#[must_use]
pub fn rest(nodes: usize, config: RingConfig, seed: u64, time: Micros) -> Rest {
    let mut world = settled(nodes, config, seed);
    let (began, used) = (Instant::now(), on_processor());
    world.play(time);
    let took = began.elapsed();
    // Others may use the machine as well.
    let used = on_processor().zip(used).map_or(took, |(after, before)| after - before);
    #[allow(clippy::cast_precision_loss)]
    let micros = used.as_secs_f64() * 1e6 / seconds(time) / nodes as f64;
    Rest { played: time, took, micros }
}

/// How long this thread has run.
fn on_processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
