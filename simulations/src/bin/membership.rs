//! Plays what can happen to a cluster's membership, and prints how it is taken.

use std::process::ExitCode;

use clap::Parser;
use codeco_protocol::gossip::RingConfig;
use codeco_simulations::membership::{self, Effort};

#[derive(Debug, Parser)]
#[command(about = "Membership of whole clusters in virtual time, seed by seed")]
struct Options {
    /// Sizes of the cluster.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100])]
    nodes: Vec<usize>,
    /// Seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kills, one after the other.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// Minutes of each time in which nobody may be called dead.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// `lan` or `metered`.
    #[arg(long, default_value = "lan")]
    profile: String,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let config = match options.profile.as_str() {
        "lan" => RingConfig::lan(),
        "metered" => RingConfig::metered(),
        other => {
            eprintln!("membership: --profile {other}: expected lan or metered");
            return ExitCode::FAILURE;
        }
    };
    let effort = Effort { kills: options.kills, minutes: options.minutes };
    println!(
        "{:<30} {:>6} {:>7} {:>7} {:>7} {:>7} {:>8}",
        "SCENARIO", "NODES", "MEDIAN", "P99", "WORST", "FALSE", "B/S"
    );
    for nodes in options.nodes {
        for row in membership::run(nodes, config, options.seed, effort) {
            let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
            println!(
                "{:<30} {nodes:>6} {:>7} {:>7} {:>7} {:>7} {:>8}",
                row.scenario,
                cell(row.quantile(0.5)),
                cell(row.quantile(0.99)),
                cell(row.quantile(1.0)),
                row.false_deaths,
                row.bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}")),
            );
        }
    }
    ExitCode::SUCCESS
}
