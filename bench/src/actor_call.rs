//! `actor-call`: what a remote actor call costs over QUIC, on loopback, with every check on.
//!
//! Three sides, each a pair of processes of its own because ractor's registries are global: a raw echo over one
//! bidirectional QUIC stream (what the transport alone costs), ractor_cluster over its own clear-text TCP (what
//! it costs as it comes), and our sessions over QUIC with identity, size and deadline checked. One call at a
//! time. Rounds are interleaved, one side after the other, so that noise hits all alike; ratios are taken round
//! by round.

mod process;
mod quic;
mod side;
mod tls;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::bars::Bars;
use crate::report::{Report, Samples};
use side::Side;

pub(crate) use process::{ProcessOptions, run_process};

type Error = Box<dyn std::error::Error>;

/// Options of `actor-call`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds per side.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Calls per round.
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    calls: u32,
    /// Bytes of request and answer.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    payload: u32,
    /// Worker threads per process, for all sides; 0 for tokio's single-threaded runtime. With two or more, the
    /// tasks between a call and the network change threads on the calling side, which costs both actor sides
    /// more than the work itself and the raw echo, which has fewer tasks, nothing.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=64))]
    workers: u32,
}

/// Measures all sides.
pub(crate) fn run(options: &Options, seed: u64, bars: Bars) -> Result<Report, Error> {
    let folder = tempfile::tempdir()?;
    tls::write_certificates(folder.path())?;
    let mut pairs = Vec::new();
    for side in Side::ALL {
        pairs.push(Pair::start(side, options, folder.path())?);
    }
    let mut figures = vec![Figures::default(); pairs.len()];
    // The first round warms caches, connections and congestion windows up and is not counted.
    for round in 0..=options.rounds {
        for (pair, figures) in pairs.iter_mut().zip(&mut figures) {
            let (p50_ns, p99_ns) = pair.round(options.calls)?;
            if round > 0 {
                figures.p50.push(p50_ns / 1_000.0);
                figures.p99.push(p99_ns / 1_000.0);
            }
        }
    }
    Ok(report(options, seed, bars, &figures))
}

#[derive(Debug, Clone, Default)]
struct Figures {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

fn report(options: &Options, seed: u64, bars: Bars, figures: &[Figures]) -> Report {
    let setting = format!("{} B payload, worker threads per process: {}", options.payload, options.workers);
    let mut report = Report::new("actor-call", seed, options.calls.into(), &setting, bars);
    type Pick = fn(&Figures) -> &Vec<f64>;
    let metrics: [(&'static str, Pick); 2] = [("p50", |f| &f.p50), ("p99", |f| &f.p99)];
    for (metric, pick) in metrics {
        let samples: Vec<Samples> = Side::ALL
            .into_iter()
            .zip(figures)
            .map(|(side, f)| Samples {
                case: side.case().to_owned(),
                metric,
                unit: "µs",
                values: pick(f).clone(),
            })
            .collect();
        let [raw, tcp, ours] = &samples[..] else { continue };
        report.add(raw);
        report.add(tcp);
        report.compare(ours, tcp);
        report.compare(ours, raw);
    }
    report
}

/// The two processes of one side.
struct Pair {
    _server: Running,
    client: Running,
}

impl Pair {
    fn start(side: Side, options: &Options, folder: &Path) -> Result<Self, Error> {
        let mut server = Running::start(side, options, folder, None)?;
        let port = server.read_line()?;
        let mut client = Running::start(side, options, folder, Some(port.trim()))?;
        client.read_line()?;
        Ok(Self { _server: server, client })
    }

    /// Median and 99th percentile of this many calls, in nanoseconds.
    fn round(&mut self, calls: u32) -> Result<(f64, f64), Error> {
        writeln!(self.client.stdin, "{calls}")?;
        let line = self.client.read_line()?;
        let (p50, p99) = line.trim().split_once(' ').ok_or("a measuring process ended early")?;
        Ok((p50.parse()?, p99.parse()?))
    }
}

struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(side: Side, options: &Options, folder: &Path, port: Option<&str>) -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["actor-call-process", side.name(), "--folder"]).arg(folder);
        command.args(["--payload", &options.payload.to_string(), "--workers", &options.workers.to_string()]);
        if let Some(port) = port {
            command.args(["--dial", port]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self { child, stdin, stdout })
    }

    fn read_line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            return Err("a measuring process ended early; see its message above".into());
        }
        Ok(line)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
