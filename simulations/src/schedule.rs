//! One schedule from begin to end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::counts::Counts;
use crate::invariant::{Invariant, Violation};
use crate::log::fold;
use crate::queue::Event;
use crate::world::World;

/// Span within which everything must have converged once faults have stopped. Messages on their way, processes that
/// come back, waiting out, and pauses after a refusal add up to less.
const CONVERGES_WITHIN: u64 = 60_000_000;
/// Time between looks.
const LOOK: u64 = 500_000;
/// How often in a row everything must be as it should.
const LOOKS: u32 = 6;

/// How a run without violation went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Of the event log and of all disks.
    pub digest: u64,
    /// What happened.
    pub counts: Counts,
    /// Virtual time from the end of faults until everything had converged, in microseconds.
    pub converged_after_us: u64,
}

/// How a run failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}: {violation}\nlast events:\n{}\nreplay: cargo run --release -p codeco-simulations --bin schedules -- --seed {seed} --trace", .tail.join("\n"))]
pub struct Failure {
    /// Which run.
    pub seed: u64,
    /// What was broken.
    pub violation: Violation,
    /// The last lines of the event log.
    pub tail: Vec<String>,
}

/// Plays the schedule of `seed`. With `trace`, every event is printed.
///
/// # Errors
/// [`Failure`] with the invariant that was broken and the last events.
pub fn run(seed: u64, trace: bool) -> Result<Outcome, Box<Failure>> {
    let mut world = World::new(seed, trace);
    let played = catch_unwind(AssertUnwindSafe(|| play(&mut world)));
    let violation = match played {
        Ok(Ok(converged_after_us)) => {
            let digest = digest(&world);
            return Ok(Outcome { digest, counts: world.counts, converged_after_us });
        }
        Ok(Err(violation)) => violation,
        Err(panic) => Violation::of_panic(&*panic),
    };
    Err(Box::new(Failure { seed, violation, tail: world.log.into_tail() }))
}

fn play(world: &mut World) -> Result<u64, Violation> {
    let faults_end = world.rng.u64(8_000_000..30_000_000);
    world.begin(faults_end);
    let mut settled = 0;
    while let Some((at, event)) = world.queue.pop() {
        world.now = at;
        let inspect = matches!(event, Event::Inspect);
        world.handle(event)?;
        if !inspect {
            continue;
        }
        match world.unsettled() {
            None => settled += 1,
            Some(what) if at > faults_end + CONVERGES_WITHIN => {
                return Err(Violation::of(Invariant::Converges, what));
            }
            Some(_) => settled = 0,
        }
        if settled == LOOKS {
            world.compare_snapshots()?;
            return Ok(at - faults_end);
        }
        world.after(LOOK, Event::Inspect);
    }
    Err(Violation::of(Invariant::Converges, "nothing happens any more"))
}

fn digest(world: &World) -> u64 {
    let disks = format!(
        "{:?} {:?} {:?}",
        world.nodes.iter().map(|host| &host.disk).collect::<Vec<_>>(),
        world.electors.iter().map(|host| &host.disk).collect::<Vec<_>>(),
        world.home.disk
    );
    fold(world.log.digest(), disks.as_bytes())
}
