//! `gossip --simulated`: the membership core alone, whole clusters in one thread and virtual time, far beyond what one
//! machine can run as processes.

use codeco_protocol::gossip::RingConfig;
use codeco_simulations::membership::{Extent, Figures, measure};

use super::{Error, Options};
use crate::bars::Bars;
use crate::report::{Report, Samples};

/// Its bars are its own: those of `gossip` are held to real agents.
const BENCH: &str = "gossip-simulated";
/// Up to so many members, processes are held up for as long as asked; beyond, for less, because each vote goes to everybody.
const PAUSES_FULL: u64 = 1_000;

/// Measures at each size.
pub(super) fn run(options: &Options, seed: u64, bars: Bars) -> Result<Report, Error> {
    let config = match options.profile.as_str() {
        "lan" => RingConfig::lan(),
        "metered" => RingConfig::metered(),
        other => return Err(format!("--profile {other}: expected lan or metered").into()),
    };
    let setting = format!("{} kills, our profile {}, virtual time", options.kills, options.profile);
    let mut report = Report::new(BENCH, seed, 1, &setting, bars);
    let mut sizes = options.nodes.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let mut all = Vec::new();
    for nodes in sizes {
        let figures = measure(nodes, config, seed, extent(options, nodes as u64));
        eprintln!("simulated × {nodes}: done");
        add(&mut report, &figures);
        all.push(figures);
    }
    let mut slope = |metric, of: fn(&Figures) -> f64, allowed: f64| {
        let points: Vec<(f64, f64)> = all.iter().map(|figures| (figures.nodes as f64, of(figures))).collect();
        let Some(slope) = log_log_slope(&points) else { return };
        let case = "simulated, all sizes".to_owned();
        let samples = Samples { case, metric, unit: "per decade of both", values: vec![slope] };
        report.against(&samples, &format!("allowed: {allowed}"), allowed);
    };
    slope("slope of traffic against members", |figures| figures.bytes, 0.1);
    slope("slope of kill, p99, against members", |figures| p99(&figures.kills), 0.1);
    Ok(report)
}

fn extent(options: &Options, nodes: u64) -> Extent {
    let fewer = (nodes / PAUSES_FULL).max(1);
    Extent {
        kills: options.kills,
        rest: options.idle_seconds,
        loss: options.stress_seconds,
        pauses: (options.stress_seconds / (fewer * fewer)).max(1),
    }
}

/// Infinite if something was never known.
fn p99(times: &[f64]) -> f64 {
    Figures::quantile(times, 0.99).unwrap_or(f64::INFINITY)
}

fn add(report: &mut Report, figures: &Figures) {
    let case = format!("simulated × {}", figures.nodes);
    let samples = |metric, unit, values| Samples { case: case.clone(), metric, unit, values };
    report.add(&samples("kill, all know", "s", figures.kills.clone()));
    report.against(&samples("kill, all know, p99", "s", vec![p99(&figures.kills)]), "allowed: 3 s", 3.0);
    report.add(&samples("kill, each knows, p99", "s", vec![p99(&figures.kills_each)]));
    report.add(&samples("restart, all know", "s", figures.restarts.clone()));
    report.add(&samples("idle traffic", "B/s", vec![figures.bytes]));
    let counts = [
        ("not known to all in a minute", figures.missed),
        ("false deaths", figures.false_deaths),
        ("false deaths, 10 % loss", figures.false_deaths_loss),
        ("false deaths, pauses", figures.false_deaths_pauses),
    ];
    for (metric, count) in counts {
        report.against(&samples(metric, "events", vec![count as f64]), "allowed: none", 1.0);
    }
}

/// The slope of the line through the logarithms of both, by least squares; `None` of fewer than two sizes, or where
/// something was never known.
fn log_log_slope(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.log10(), y.log10())).collect();
    let count = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let both: f64 = logs.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let spread: f64 = logs.iter().map(|point| (point.0 - x) * (point.0 - x)).sum();
    let slope = both / spread;
    slope.is_finite().then_some(slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slope_of_what_grows_with_a_power_is_that_power() {
        let of = |power: f64| -> Vec<(f64, f64)> {
            [10.0, 100.0, 1_000.0].map(|x: f64| (x, 7.0 * x.powf(power))).to_vec()
        };
        for power in [0.0, 0.1, 1.0, -2.0] {
            let slope = log_log_slope(&of(power)).unwrap();
            assert!((slope - power).abs() < 1e-9, "{slope}");
        }
        assert_eq!(log_log_slope(&of(1.0)[..1]), None);
        assert_eq!(log_log_slope(&[(10.0, 2.0), (100.0, f64::INFINITY)]), None);
    }
}
