//! `codeco simulate`.

use std::io::{IsTerminal as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Args;
use codeco_protocol::api::codes;
use codeco_simulations::fleet::{
    Batch, Failure as RunFailure, Outcome, Playing, Progress, Scenario, builtin, builtin_called, report, run,
    run_seeds, shrink,
};
use serde::Serialize;

use crate::failure::{ExitClass, Failure};
use crate::session::{Output, Session};

/// Last events told of a run that fails.
const TAIL: usize = 12;
/// Between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Arguments of `simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// File of a scenario (TOML), or the name of one that comes with the program.
    #[arg(required_unless_present = "list")]
    scenario: Option<String>,
    /// List the scenarios that come with the program.
    #[arg(long, conflicts_with_all = ["scenario", "seed", "seeds"])]
    list: bool,
    /// Play this one seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Play these seeds, as `FIRST..END` (END is left out).
    #[arg(long, value_parser = parse_range, value_name = "FIRST..END")]
    seeds: Option<Range<u64>>,
    /// Seeds played at a time; as many as the machine has cores if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Nodes of the whole fleet, instead of as many as the scenario says: spread over its clusters.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    nodes: Option<u32>,
    /// Print every event of the seed.
    #[arg(long, conflicts_with = "seeds")]
    trace: bool,
    /// Write a page with plots of the seed to this file.
    #[arg(long, conflicts_with = "seeds", value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let error = || format!("{text:?} is not a range of seeds: expected something like 0..1000");
    let (first, end) = text.split_once("..").ok_or_else(error)?;
    let range = first.parse().map_err(|_| error())?..end.parse().map_err(|_| error())?;
    if range.is_empty() { Err(error()) } else { Ok(range) }
}

/// What is printed for programs.
#[derive(Serialize)]
struct Told {
    scenario: String,
    seeds: (u64, u64),
    digest: String,
    virtual_seconds: f64,
    real_seconds: f64,
    converged_seconds_median: f64,
    converged_seconds_worst: f64,
    slowest_seed: u64,
    counts: std::collections::BTreeMap<String, u64>,
}

impl SimulateArgs {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        if self.list {
            for (name, about) in builtin() {
                writeln!(session.stdout, "{name:<14} {about}")?;
            }
            return Ok(());
        }
        let name = self.scenario.clone().unwrap_or_default();
        let mut scenario = read(&name)?;
        if let Some(nodes) = self.nodes {
            let nodes = usize::try_from(nodes).unwrap_or(usize::MAX);
            scenario.fleet.clusters = scenario.fleet.clusters.min(nodes);
            scenario.fleet.nodes = nodes.div_ceil(scenario.fleet.clusters);
        }
        match &self.seeds {
            Some(seeds) => self.many(session, &name, &scenario, seeds.clone()),
            None => self.one(session, &name, &scenario, self.seed.unwrap_or(1)),
        }
    }

    fn one(
        &self,
        session: &mut Session<'_>,
        name: &str,
        scenario: &Scenario,
        seed: u64,
    ) -> Result<(), Failure> {
        let sample_s = if self.report.is_some() { 0.5 } else { 0.0 };
        let playing = Playing { trace: self.trace, sample_s, planted: None };
        let began = Instant::now();
        let outcome = run(scenario, seed, playing)
            .map_err(|failure| failed(session, name, scenario, &failure, playing))?;
        if let Some(path) = &self.report {
            std::fs::write(path, report(name, seed, scenario, &outcome)).map_err(|error| {
                Failure::new(ExitClass::Error, codes::OUTPUT, format!("{}: {error}", path.display()))
                    .next("name a file in a folder that is there and can be written to")
            })?;
            writeln!(session.stderr, "report: {}", path.display())?;
        }
        let batch = as_batch(outcome, seed);
        self.print(session, name, scenario, &batch, seed..seed + 1, began.elapsed())
    }

    fn many(
        &self,
        session: &mut Session<'_>,
        name: &str,
        scenario: &Scenario,
        seeds: Range<u64>,
    ) -> Result<(), Failure> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let jobs = self.jobs.map_or(cores, usize::from);
        let (began, shown) = (Instant::now(), Mutex::new(Instant::now()));
        let (total, is_terminal) = (seeds.end - seeds.start, std::io::stderr().is_terminal());
        let progress = |progress: Progress| {
            let mut shown = shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if is_terminal && (shown.elapsed() >= PROGRESS_EVERY || progress.done == total) {
                *shown = Instant::now();
                let _ = write!(std::io::stderr(), "\r{}", bar(progress, total, began.elapsed()));
            }
        };
        let playing = Playing::default();
        let played = run_seeds(scenario, seeds.clone(), jobs, playing, &progress);
        if is_terminal {
            writeln!(session.stderr)?;
        }
        let batch = played.map_err(|failure| failed(session, name, scenario, &failure, playing))?;
        self.print(session, name, scenario, &batch, seeds, began.elapsed())?;
        let missing = batch.counts.missing(scenario);
        if missing.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            ExitClass::Error,
            codes::SIMULATION_SHOWS_NOTHING,
            format!("never happened, so nothing is shown about it: {}", missing.join(", ")),
        )
        .about(format!("scenario/{name}"))
        .next("play more seeds, or take it out of `ends.happens` and `faults.mix`"))
    }

    fn print(
        &self,
        session: &mut Session<'_>,
        name: &str,
        scenario: &Scenario,
        batch: &Batch,
        seeds: Range<u64>,
        took: Duration,
    ) -> Result<(), Failure> {
        let (median, worst) = (batch.converged(0.5), batch.converged(1.0));
        if let Some(yaml) = self.output.yaml() {
            let told = Told {
                scenario: name.to_owned(),
                seeds: (seeds.start, seeds.end),
                digest: format!("{:016x}", batch.digest),
                virtual_seconds: batch.played_s,
                real_seconds: took.as_secs_f64(),
                converged_seconds_median: median,
                converged_seconds_worst: worst,
                slowest_seed: batch.slowest,
                counts: batch.counts.lines().into_iter().collect(),
            };
            return session.write_value(&told, yaml);
        }
        write!(session.stdout, "{}", batch.counts)?;
        let fleet = &scenario.fleet;
        writeln!(
            session.stdout,
            "{} hubs, {} clusters of {} nodes; {} seeds, no promise broken; digest {:016x}",
            fleet.hubs,
            fleet.clusters,
            fleet.nodes,
            seeds.end - seeds.start,
            batch.digest
        )?;
        writeln!(
            session.stdout,
            "converged after the last fault: median {median:.1} s, worst {worst:.1} s (seed {}); at most {} moves of one \
             cluster in a second",
            batch.slowest, batch.moves_most
        )?;
        writeln!(
            session.stdout,
            "{:.0} s of virtual time in {:.1} s: {:.0} x real time",
            batch.played_s,
            took.as_secs_f64(),
            batch.played_s / took.as_secs_f64().max(1e-9)
        )?;
        Ok(())
    }
}

fn read(name: &str) -> Result<Scenario, Failure> {
    let known = builtin_called(name).filter(|_| !Path::new(name).exists());
    let read = known.unwrap_or_else(|| Scenario::read(Path::new(name)));
    read.map_err(|error| {
        Failure::new(ExitClass::Usage, codes::SCENARIO_INVALID, error.to_string())
            .about(format!("scenario/{name}"))
            .next("correct it; `codeco simulate --list` names those that come with the program")
    })
}

fn as_batch(outcome: Outcome, seed: u64) -> Batch {
    Batch {
        digest: outcome.digest,
        played_s: outcome.played_s,
        converged_s: vec![outcome.converged_s],
        slowest: seed,
        moves_most: outcome.moves_most,
        counts: outcome.counts,
    }
}

fn bar(progress: Progress, total: u64, took: Duration) -> String {
    const WIDTH: u64 = 24;
    let filled = usize::try_from(WIDTH * progress.done / total.max(1)).unwrap_or(0);
    let seconds = took.as_secs_f64().max(1e-9);
    #[allow(clippy::cast_precision_loss)]
    let rate = progress.done as f64 / seconds;
    format!(
        "[{}{}] {}/{total} seeds, {rate:.1} seeds/s, {:.0} x real time ",
        "#".repeat(filled),
        " ".repeat(usize::try_from(WIDTH).unwrap_or(0) - filled),
        progress.done,
        progress.played_s / seconds
    )
}

/// A promise was broken: how to see that again, and a smaller scenario in which it is.
fn failed(
    session: &mut Session<'_>,
    name: &str,
    scenario: &Scenario,
    failure: &RunFailure,
    playing: Playing,
) -> Failure {
    let seed = failure.seed;
    let replay = format!("codeco simulate {name} --seed {seed} --trace");
    let broken = format!("seed {seed}, after {:.1} s: {}", failure.at_s, failure.violation);
    let told =
        Failure::new(ExitClass::Error, codes::PROMISE_BROKEN, &broken).about(format!("scenario/{name}"));
    // Whoever reads it may be gone; the failure is told all the same.
    for line in &failure.tail[failure.tail.len().saturating_sub(TAIL)..] {
        let _ = writeln!(session.stderr, "{line}");
    }
    let _ = writeln!(
        session.stderr,
        "{broken}
replay: {replay}
looking for a smaller scenario; Ctrl-C ends that"
    );
    let smaller = shrink(scenario, failure, Playing { trace: false, ..playing }).and_then(|shrunk| {
        let base =
            Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let path = PathBuf::from(format!("shrunk-{base}-{seed}.toml"));
        let text = shrunk.scenario.to_toml().ok()?;
        std::fs::write(&path, text).ok()?;
        let acts = shrunk.scenario.acts.len();
        let fleet = &shrunk.scenario.fleet;
        Some(format!(
            "codeco simulate {} --seed {seed} --trace: {acts} acts, {} clusters of {} nodes",
            path.display(),
            fleet.clusters,
            fleet.nodes
        ))
    });
    told.next(smaller.map_or_else(|| replay.clone(), |smaller| format!("{replay}; smaller: {smaller}")))
}
