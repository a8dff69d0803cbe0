//! Plays what can happen to a cluster's membership, and prints how it is taken.

use std::process::ExitCode;

use clap::Parser;
use codeco_protocol::gossip::RingConfig;
use codeco_protocol::units::Micros;
use codeco_simulations::membership::{self, Effort, Extent, Figures};

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
    /// Instead, what so many virtual seconds of rest cost this machine.
    #[arg(long, value_name = "SECONDS")]
    bench: Option<u64>,
    /// Instead, the figures of each cluster, with a minute of each kind of stress; `--pauses` bounds what is dear in a large
    /// one.
    #[arg(long)]
    figures: bool,
    /// Seconds with processes held up, in `--figures`.
    #[arg(long, default_value_t = 60)]
    pauses: u64,
    /// Only scenarios whose name begins with this.
    #[arg(long)]
    only: Option<String>,
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
    if let Some(seconds) = options.bench {
        bench(&options, config, Micros::from_secs(seconds));
        return ExitCode::SUCCESS;
    }
    if options.figures {
        figures(&options, config);
        return ExitCode::SUCCESS;
    }
    let effort = Effort { kills: options.kills, minutes: options.minutes };
    println!(
        "{:<30} {:>6} {:>7} {:>7} {:>7} {:>7} {:>8}",
        "SCENARIO", "NODES", "MEDIAN", "P99", "WORST", "FALSE", "B/S"
    );
    for nodes in options.nodes {
        membership::run_each(nodes, config, options.seed, effort, options.only.as_deref(), &mut |row| {
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
        });
    }
    ExitCode::SUCCESS
}

fn figures(options: &Options, config: RingConfig) {
    let extent = Extent { kills: options.kills, rest: 60, loss: 60, pauses: options.pauses };
    for &nodes in &options.nodes {
        let figures = membership::measure(nodes, config, options.seed, extent);
        let times = |name: &str, times: &[f64]| {
            let cell = |share| {
                let quantile = Figures::quantile(times, share);
                quantile.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2}"))
            };
            println!("{nodes:>6} {name:<32} {:>7} {:>7} {:>7}", cell(0.5), cell(0.99), cell(1.0));
        };
        times("kill, the last knows", &figures.kills);
        times("kill, each knows", &figures.kills_each);
        times("restart, the last knows", &figures.restarts);
        println!("{nodes:>6} {:<32} {:>7}", "not known to all in a minute", figures.missed);
        println!("{nodes:>6} {:<32} {:>7.0}", "bytes in a second, at rest", figures.bytes);
        println!("{nodes:>6} {:<32} {:>7}", "false deaths", figures.false_deaths);
        println!("{nodes:>6} {:<32} {:>7}", "false deaths, 10 % loss", figures.false_deaths_loss);
        println!("{nodes:>6} {:<32} {:>7}", "false deaths, pauses", figures.false_deaths_pauses);
    }
}

/// Peaks are those of the process: the largest cluster comes last.
fn bench(options: &Options, config: RingConfig, time: Micros) {
    println!(
        "{:>6} {:>10} {:>10} {:>8} {:>14} {:>10}",
        "NODES", "VIRTUAL S", "REAL S", "RATIO", "US/NODE-S", "PEAK MB"
    );
    for &nodes in &options.nodes {
        let rest = membership::rest(nodes, config, options.seed, time);
        let (played, took) = (rest.played.to_duration().as_secs_f64(), rest.took.as_secs_f64());
        println!(
            "{nodes:>6} {played:>10.1} {took:>10.2} {:>8.2} {:>14.2} {:>10}",
            played / took,
            rest.micros,
            peak().map_or_else(|| "-".to_owned(), |megabytes| megabytes.to_string()),
        );
    }
}

/// Most memory this process has had, in megabytes.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes / 1_000)
}
