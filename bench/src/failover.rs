//! `failover`: a node dies with everything on it but its guard; how long until its work runs elsewhere.
//!
//! A fleet of real processes on loopback, with the runtime `process`. Each trial applies an application whose replicas
//! must never run twice, kills the agent of a node that runs some with SIGKILL, and notes when the lead declares the
//! node lost and when all replicas are ready on other nodes. The node's lease bounds both from below: nobody may start
//! a replica elsewhere before the lease is waited out, so times are compared with that time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use codeco_actors::swm::lease::LeaseConfig;
use codeco_console::local::RuntimeKind;
use codeco_protocol::api::{AppView, ClusterView, EventView, ReplicaView};
use codeco_protocol::units::Micros;

use crate::bars::Bars;
use crate::report::{Report, Samples};
use crate::stage::{Error, Looks, Shape, Stage};

const LOOKS: Looks = Looks { deadline: Duration::from_secs(60), pause: Duration::from_millis(5) };
const APP: &str = "failover";

/// Options of `failover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Trials: nodes killed.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    trials: u32,
    /// Nodes of the cluster, the lead included.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=16))]
    nodes: u32,
    /// Replicas in the cluster; those of the killed node move.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(3..=200))]
    replicas: u32,
    /// Node lease in milliseconds.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(500..=60_000))]
    lease_ms: u64,
}

/// Measures.
pub(crate) fn run(options: &Options, seed: u64, bars: Bars) -> Result<Report, Error> {
    let mut random = fastrand::Rng::with_seed(seed);
    let agent_args = vec!["--lease-ms".into(), options.lease_ms.to_string().into()];
    let shape = Shape { clusters: 1, nodes: options.nodes, runtime: RuntimeKind::Process, agent_args };
    let mut failover = Failover(Stage::start(shape, LOOKS)?);
    let mut figures = Figures::default();
    for _ in 0..options.trials {
        // Anywhere between two requests for the lease.
        let pause = Duration::from_millis(random.u64(0..=options.lease_ms / 3));
        figures.add(&failover.trial(options, pause)?);
    }
    failover.0.stop()?;
    Ok(report(options, seed, bars, figures))
}

fn report(options: &Options, seed: u64, bars: Bars, figures: Figures) -> Report {
    let moved = figures.moved.iter().sum::<f64>() / figures.moved.len().max(1) as f64;
    let setting = format!(
        "{} nodes, {} replicas, {moved:.1} of them moved on average, lease {} ms",
        options.nodes, options.replicas, options.lease_ms
    );
    let mut report = Report::new("failover", seed, 1, &setting, bars);
    let row =
        |case: &str, values: Vec<f64>| Samples { case: case.into(), metric: "time", unit: "ms", values };
    let wait_out = lease(options).wait_out().0 as f64 / 1_000.0;
    let lost = row("lost node is known", figures.lost);
    report.against(&lost, "allowed: 3 s", 3_000.0);
    report.against(&lost, "waiting out the lease", wait_out);
    report.against(&row("work is ready elsewhere", figures.ready), "waiting out the lease", wait_out);
    report.add(&row("known to ready", figures.between));
    report
}

/// As the agent counts it.
fn lease(options: &Options) -> LeaseConfig {
    let duration = Micros::from_millis(options.lease_ms);
    LeaseConfig { duration, drift_ppm: 10_000, margin: Micros(duration.0 / 5) }
}

/// One trial, times in milliseconds since the kill.
struct Trial {
    moved: usize,
    lost: f64,
    ready: f64,
}

#[derive(Default)]
struct Figures {
    moved: Vec<f64>,
    lost: Vec<f64>,
    ready: Vec<f64>,
    between: Vec<f64>,
}

impl Figures {
    fn add(&mut self, trial: &Trial) {
        self.moved.push(trial.moved as f64);
        self.lost.push(trial.lost);
        self.ready.push(trial.ready);
        self.between.push((trial.ready - trial.lost).max(0.0));
    }
}

struct Failover(Stage);

impl Failover {
    fn trial(&mut self, options: &Options, pause: Duration) -> Result<Trial, Error> {
        self.0.apply(&app(options.replicas))?;
        let wanted = options.replicas as usize;
        let placed = self.0.until("the replicas are ready", || {
            let replicas: Vec<ReplicaView> = self.0.get(&["replicas"])?;
            let all = replicas.len() == wanted && replicas.iter().all(|replica| replica.ready);
            Ok(all.then_some(replicas))
        })?;
        let on = |name: &str| placed.iter().filter(|replica| runs_on(replica, name)).count();
        // The end of the lead is another matter.
        let clusters: Vec<ClusterView> = self.0.get(&["clusters"])?;
        let lead = clusters.into_iter().find_map(|cluster| cluster.lead).ok_or("nobody leads the cluster")?;
        let agents =
            self.0.fleet.agents().iter().enumerate().filter(|(_, agent)| agent.name != lead.as_str());
        let (moved, victim) = agents.map(|(at, agent)| (on(&agent.name), at)).max().unwrap_or_default();
        if moved == 0 {
            return Err("all replicas were placed on the lead's node: more replicas are needed".into());
        }
        let name = self.0.fleet.agents()[victim].name.clone();
        std::thread::sleep(pause);
        let (killed, killed_at) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?);
        self.0.fleet.kill(Some(victim));
        let ready = self.0.until("the replicas are ready elsewhere", || {
            let replicas: Vec<ReplicaView> = self.0.get(&["replicas"])?;
            let well = |replica: &&ReplicaView| replica.ready && !runs_on(replica, &name);
            Ok((replicas.iter().filter(well).count() == wanted).then(|| killed.elapsed()))
        })?;
        // Asked only now: the question waits a while for the dead node to answer too.
        let lost_at = self.0.until("the loss is told", || {
            let events: Vec<EventView> = self.0.get(&["events"])?;
            let times = events.iter().filter(|e| e.reason == "NodeLost" && e.object.name.ends_with(&name));
            let times = times.map(|event| Duration::from_millis(event.at.0));
            Ok(times.filter(|at| *at >= killed_at).min())
        })?;
        self.clear(victim)?;
        let milliseconds = |span: Duration| span.as_secs_f64() * 1_000.0;
        let lost = milliseconds(lost_at.saturating_sub(killed_at));
        Ok(Trial { moved, lost, ready: milliseconds(ready) })
    }

    /// The fleet as it was before the trial.
    fn clear(&mut self, victim: usize) -> Result<(), Error> {
        self.0.fleet.start_agent(victim)?;
        self.0.fleet.wait_agent(victim)?;
        self.0.codeco(&["delete", "app", APP])?;
        self.0.until("the application is gone", || {
            let apps: Vec<AppView> = self.0.get(&["apps"])?;
            Ok(apps.is_empty().then_some(()))
        })
    }
}

fn runs_on(replica: &ReplicaView, name: &str) -> bool {
    replica.node.as_ref().is_some_and(|node| node.as_str() == name)
}

/// An application whose replicas need a lease.
fn app(replicas: u32) -> serde_json::Value {
    let script = "trap 'kill \"$pause\" 2>/dev/null; exit 0' TERM; \
                  while :; do sleep 5 & pause=$!; wait \"$pause\"; done";
    let container = serde_json::json!({
        "name": "work", "command": ["sh", "-c", script],
        "resources": {"requests": {"cpu": "10m", "memory": "1Mi"}},
    });
    serde_json::json!({
        "apiVersion": "codeco.he-codeco.eu/v1alpha1",
        "kind": "CodecoApp",
        "metadata": {"name": APP},
        "spec": {
            "appName": APP,
            "codecoapp-msspec": [{"serviceName": "work", "podspec": {"containers": [container]}}],
            "placement": {"services": {"work": {"replicas": replicas, "partitionPolicy": "fence"}}},
        },
    })
}
