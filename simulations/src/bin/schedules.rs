//! Plays seeded schedules of faults against the cores, and says what happened.

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use codeco_simulations::{run, run_seeds};

/// Plays seeded schedules of faults against ledger, lead and home in virtual time, checking the invariants at every
/// step. The same seed gives the same events to the byte.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seeds to play, as `FIRST..END` (END is left out).
    #[arg(long, default_value = "0..1000", value_parser = parse_range)]
    seeds: Range<u64>,
    /// Play this one seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every event of that seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Threads; as many as the machine has cores if not given.
    #[arg(long)]
    threads: Option<usize>,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let error = || format!("{text:?} is not a range of seeds: expected something like 0..10000");
    let (first, end) = text.split_once("..").ok_or_else(error)?;
    let range = first.parse().map_err(|_| error())?..end.parse().map_err(|_| error())?;
    if range.is_empty() { Err(error()) } else { Ok(range) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        return match run(seed, arguments.trace) {
            Ok(outcome) => {
                print!("{}", outcome.counts);
                println!("digest {:016x}", outcome.digest);
                ExitCode::SUCCESS
            }
            Err(failure) => {
                eprintln!("{failure}");
                ExitCode::FAILURE
            }
        };
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = arguments.threads.unwrap_or(cores);
    let number = arguments.seeds.end - arguments.seeds.start;
    let began = Instant::now();
    match run_seeds(arguments.seeds, threads) {
        Ok(batch) => {
            let seconds = began.elapsed().as_secs_f64();
            print!("{}", batch.counts);
            println!("digest {:016x}", batch.digest);
            #[allow(clippy::cast_precision_loss)]
            let rate = number as f64 / seconds;
            println!("{number} seeds in {seconds:.1} s on {threads} threads: {rate:.0} seeds/s");
            #[allow(clippy::cast_precision_loss)]
            let slowest = batch.slowest.0 as f64 / 1e6;
            println!("slowest to converge: {slowest:.1} s of virtual time, seed {}", batch.slowest.1);
            let missing = batch.counts.missing();
            if !missing.is_empty() {
                eprintln!("never happened, so nothing is proven about it: {}", missing.join(", "));
                return ExitCode::FAILURE;
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
