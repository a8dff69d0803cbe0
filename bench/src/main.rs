//! Benchmarks of CODECO, one subcommand per table.
//!
//! Each measures our side and the best other side that can be had in the same run, prints a table or JSON in one
//! schema, and with `--check` fails when a bar of `bench/bars.toml` does not hold.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod actor_call;
mod bars;
mod failover;
mod forecast;
mod gossip;
mod machine;
mod rejoin;
mod report;
mod stage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use bars::Bars;
use report::{Output, Report};

/// Exit code when a bar does not hold.
const BAR_MISSED: u8 = 2;

#[derive(Debug, Parser)]
#[command(name = "codeco-bench", version, about = "Benchmarks of CODECO, one subcommand per table")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    /// How to print the figures.
    #[arg(long, global = true, value_enum, default_value = "table")]
    output: Output,
    /// Exit with 2 when a bar of bench/bars.toml does not hold.
    #[arg(long, global = true)]
    check: bool,
    /// Seed of whatever is random.
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// A remote actor call over QUIC, beside a raw QUIC echo and ractor_cluster over its own TCP.
    ActorCall(actor_call::Options),
    /// One process of `actor-call`; started by it.
    #[command(hide = true)]
    ActorCallProcess(actor_call::ProcessOptions),
    /// A node is killed with SIGKILL: how long until its lead knows, and until its work runs elsewhere.
    Failover(failover::Options),
    /// Forecasts of load on public series, beside the best simple model for each.
    Forecast(forecast::Options),
    /// Membership of real agents beside Debian's serf: joining, deaths noticed and wrongly told, idle cost, a partition.
    Gossip(gossip::Options),
    /// The hub loses its disk but for its authority's key: how long until the one in its place has the full picture.
    Rejoin(rejoin::Options),
}

/// The word after which this program is the command `codeco`: the fleets it measures are made of itself.
const CODECO: &str = "codeco";

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == CODECO) {
        return codeco_console::main_after(&[CODECO]);
    }
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(Some(report)) => match report.print(arguments.output) {
            Ok(text) => {
                println!("{text}");
                if arguments.check && !report.passes() {
                    ExitCode::from(BAR_MISSED)
                } else {
                    ExitCode::SUCCESS
                }
            }
            Err(error) => fail(&error),
        },
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref()),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("codeco-bench: {error}");
    ExitCode::FAILURE
}

fn run(arguments: &Arguments) -> Result<Option<Report>, Box<dyn std::error::Error>> {
    let bars = Bars::built_in()?;
    match &arguments.bench {
        Bench::ActorCall(options) => Ok(Some(actor_call::run(options, arguments.seed, bars)?)),
        Bench::ActorCallProcess(options) => {
            actor_call::run_process(options)?;
            Ok(None)
        }
        Bench::Failover(options) => Ok(Some(failover::run(options, arguments.seed, bars)?)),
        Bench::Forecast(options) => Ok(Some(forecast::run(options, arguments.seed, bars)?)),
        Bench::Gossip(options) => Ok(Some(gossip::run(options, arguments.seed, bars)?)),
        Bench::Rejoin(options) => Ok(Some(rejoin::run(options, arguments.seed, bars)?)),
    }
}
