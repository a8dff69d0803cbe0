//! `rejoin`: the hub is killed and loses its disk, all but the folder with its authority's key; how long until the one
//! started in its place has the full picture again.
//!
//! A fleet of real agents on loopback, with the runtime `simulated`. One application was given to the hub, whose home is
//! gone with the disk, and one to an agent. Each trial notes, from the start of the new process, when it lists all nodes
//! as ready, the facts of all their hosts, and all replicas, ready and under the tokens they had: no workload may be
//! touched.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use codeco_console::local::RuntimeKind;
use codeco_protocol::api::{NodeView, ReplicaView};

use crate::bars::Bars;
use crate::report::{Report, Samples};
use crate::stage::{Error, Looks, Shape, Stage};

const LOOKS: Looks = Looks { deadline: Duration::from_secs(120), pause: Duration::from_millis(20) };

/// Options of `rejoin`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Trials: times the hub loses its disk.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    trials: u32,
    /// Clusters.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    clusters: u32,
    /// Agents in each.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=200))]
    nodes: u32,
    /// How long the hub is away, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    away: u64,
}

/// Measures.
pub(crate) fn run(options: &Options, seed: u64, bars: Bars) -> Result<Report, Error> {
    let mut rejoin = Rejoin::start(options)?;
    let mut figures = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..options.trials {
        let trial = rejoin.trial(Duration::from_secs(options.away))?;
        for (figure, time) in figures.iter_mut().zip(trial) {
            figure.push(time.as_secs_f64() * 1_000.0);
        }
    }
    rejoin.stage.stop()?;
    let agents = options.clusters * options.nodes;
    let setting =
        format!("{} clusters of {} agents, hub away for {} s", options.clusters, options.nodes, options.away);
    let mut report = Report::new("rejoin", seed, u64::from(agents), &setting, bars);
    let case = format!("codeco × {agents}");
    let metrics = ["hub ready", "all nodes", "all facts", "full picture"];
    for (metric, values) in metrics.into_iter().zip(figures) {
        let row = Samples { case: case.clone(), metric, unit: "ms", values };
        if metric == "full picture" {
            report.against(&row, "allowed: 10 s", 10_000.0);
        } else {
            report.add(&row);
        }
    }
    Ok(report)
}

/// Where each replica is, and under which token.
type Picture = BTreeMap<String, String>;

struct Rejoin {
    stage: Stage,
    agents: usize,
    picture: Picture,
}

impl Rejoin {
    fn start(options: &Options) -> Result<Self, Error> {
        let (clusters, nodes) = (options.clusters, options.nodes);
        let shape = Shape { clusters, nodes, runtime: RuntimeKind::Simulated, agent_args: Vec::new() };
        let stage = Stage::start(shape, LOOKS)?;
        let agents = stage.fleet.agents().len();
        stage.apply(&app("at-hub", agents))?;
        stage.speak_to(Some(format!("https://{}", stage.fleet.agents()[0].api())))?;
        stage.apply(&app("at-agent", agents))?;
        stage.speak_to(None)?;
        let mut rejoin = Self { stage, agents, picture: Picture::new() };
        rejoin.picture = rejoin.stage.until("everything is there", || {
            let picture = rejoin.picture()?;
            let all = rejoin.nodes()? && rejoin.facts()? && picture.len() == 2 * agents;
            Ok(all.then_some(picture))
        })?;
        Ok(rejoin)
    }

    /// When the new hub was ready, listed all nodes, all facts, and everything.
    fn trial(&mut self, away: Duration) -> Result<[Duration; 4], Error> {
        self.stage.fleet.kill(None);
        for entry in std::fs::read_dir(self.stage.fleet.hub_state())? {
            let entry = entry?;
            match entry.file_type()? {
                _ if entry.file_name() == "ca" => {}
                kind if kind.is_dir() => std::fs::remove_dir_all(entry.path())?,
                _ => std::fs::remove_file(entry.path())?,
            }
        }
        std::thread::sleep(away);
        let began = Instant::now();
        self.stage.fleet.start_hub()?;
        self.stage.fleet.wait_hub()?;
        let ready = began.elapsed();
        self.stage.speak_to(None)?;
        let after = |what, look: fn(&Self) -> Result<bool, Error>| {
            self.stage.until(what, || Ok(look(self)?.then(|| began.elapsed())))
        };
        let nodes = after("all nodes are listed", Self::nodes)?;
        let facts = after("all facts are listed", Self::facts)?;
        let full = after("all replicas are listed", |rejoin| {
            let picture = rejoin.picture()?;
            if picture.len() < rejoin.picture.len() {
                return Ok(false);
            }
            let touched = |(replica, place): &(&String, &String)| rejoin.picture.get(*replica) != Some(place);
            match picture.iter().find(touched) {
                None => Ok(true),
                Some((replica, place)) => Err(format!("{replica} was touched: it is {place}").into()),
            }
        })?;
        Ok([ready, nodes, facts, full])
    }

    /// Whether all nodes are listed, and ready.
    fn nodes(&self) -> Result<bool, Error> {
        let nodes: Vec<NodeView> = self.stage.get(&["nodes"])?;
        Ok(nodes.iter().filter(|node| node.ready).count() == self.agents)
    }

    /// Whether the hosts of all nodes are described.
    fn facts(&self) -> Result<bool, Error> {
        let nodes: Vec<NodeView> = self.stage.get(&["nodes", "-l", "fact/kernel"])?;
        Ok(nodes.len() == self.agents)
    }

    /// All replicas that are ready.
    fn picture(&self) -> Result<Picture, Error> {
        let replicas: Vec<ReplicaView> = self.stage.get(&["replicas"])?;
        let ready = replicas.into_iter().filter(|replica| replica.ready);
        Ok(ready
            .map(|r| {
                let text = |word: Option<String>| word.unwrap_or_default();
                let place = [text(r.cluster.map(|c| c.to_string())), text(r.node.map(|n| n.to_string()))];
                (
                    format!("{}/{}-{}", r.app, r.service, r.index),
                    format!("{} {}", place.join("/"), text(r.token)),
                )
            })
            .collect())
    }
}

/// One replica for each agent.
fn app(name: &str, replicas: usize) -> serde_json::Value {
    let container = serde_json::json!({
        "name": "work", "image": "work",
        "resources": {"requests": {"cpu": "10m", "memory": "1Mi"}},
    });
    serde_json::json!({
        "apiVersion": "codeco.he-codeco.eu/v1alpha1",
        "kind": "CodecoApp",
        "metadata": {"name": name},
        "spec": {
            "appName": name,
            "codecoapp-msspec": [{"serviceName": "work", "podspec": {"containers": [container]}}],
            "placement": {"services": {"work": {"replicas": replicas}}},
        },
    })
}
