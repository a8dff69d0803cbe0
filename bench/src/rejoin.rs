//! `rejoin`: the hub is killed and loses its disk, all but the folder with its authority's key; how long until the one
//! started in its place has the full picture again.
//!
//! A fleet of real agents on loopback, with the runtime `simulated`. One application was given to the hub, whose home is
//! gone with the disk, and one to an agent. Each trial notes, from the start of the new process, when it lists all nodes
//! as ready, the facts of all their hosts, and all replicas, ready and under the tokens they had: no workload may be
//! touched.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use codeco_console::local::{LocalFleet, LocalOptions, RuntimeKind};
use codeco_protocol::api::{List, NodeView, ReplicaView};
use codeco_protocol::identity::write_private;
use serde::de::DeserializeOwned;

use crate::bars::Bars;
use crate::report::{Report, Samples};

type Error = Box<dyn std::error::Error>;

/// How long anything may take before the run is given up.
const DEADLINE: Duration = Duration::from_secs(120);
/// Pause between two looks: what a figure may be too large by, with the time of one look.
const PAUSE: Duration = Duration::from_millis(20);

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
    let mut stage = Stage::start(options)?;
    let mut figures = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..options.trials {
        let trial = stage.trial(Duration::from_secs(options.away))?;
        for (figure, time) in figures.iter_mut().zip(trial) {
            figure.push(time.as_secs_f64() * 1_000.0);
        }
    }
    let left = stage.fleet.stop();
    if !left.is_empty() {
        return Err(format!("did not stop in time: {}", left.join(", ")).into());
    }
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

struct Stage {
    program: Vec<OsString>,
    contexts: PathBuf,
    fleet: LocalFleet,
    agents: usize,
    picture: Picture,
    // Last, so that the fleet has stopped when it is removed.
    _folder: tempfile::TempDir,
}

impl Stage {
    fn start(options: &Options) -> Result<Self, Error> {
        let folder = tempfile::tempdir()?;
        let program = vec![std::env::current_exe()?.into_os_string(), crate::CODECO.into()];
        let mut fleet = LocalFleet::prepare(LocalOptions {
            program: program.clone(),
            state: folder.path().join("state"),
            clusters: options.clusters,
            nodes: options.nodes,
            runtime: RuntimeKind::Simulated,
            faults: false,
            agent_args: Vec::new(),
            hub_args: Vec::new(),
        })?;
        fleet.start()?;
        let agents = fleet.agents().len();
        let contexts = folder.path().join("contexts.yaml");
        let mut stage = Self { program, contexts, fleet, agents, picture: Picture::new(), _folder: folder };
        let agent = format!("https://{}", stage.fleet.agents()[0].api());
        for (name, agent) in [("at-hub", None), ("at-agent", Some(agent))] {
            stage.speak_to(agent)?;
            let manifest = stage.contexts.with_file_name(format!("{name}.json"));
            std::fs::write(&manifest, app(name, agents).to_string())?;
            stage.codeco(&["apply", "-f", &manifest.display().to_string()])?;
        }
        stage.speak_to(None)?;
        stage.picture = stage.until("everything is there", |stage| {
            let picture = stage.picture()?;
            let all = stage.nodes()? && stage.facts()? && picture.len() == 2 * stage.agents;
            Ok(all.then_some(picture))
        })?;
        Ok(stage)
    }

    /// The hub, or an agent: then no hub is reached, as when there is none.
    fn speak_to(&self, agent: Option<String>) -> Result<(), Error> {
        let access = self.fleet.access()?;
        let server = if agent.is_some() { "https://127.0.0.1:9".to_owned() } else { access.server };
        let members: Vec<String> = agent.into_iter().collect();
        let context = serde_json::json!({
            "current": "bench",
            "contexts": [{"name": "bench", "server": server, "ca": access.ca, "token": access.token,
                          "members": members}],
        });
        Ok(write_private(&self.contexts, context.to_string().as_bytes())?)
    }

    /// When the new hub was ready, listed all nodes, all facts, and everything.
    fn trial(&mut self, away: Duration) -> Result<[Duration; 4], Error> {
        self.fleet.kill(None);
        for entry in std::fs::read_dir(self.fleet.hub_state())? {
            let entry = entry?;
            match entry.file_type()? {
                _ if entry.file_name() == "ca" => {}
                kind if kind.is_dir() => std::fs::remove_dir_all(entry.path())?,
                _ => std::fs::remove_file(entry.path())?,
            }
        }
        std::thread::sleep(away);
        let began = Instant::now();
        self.fleet.start_hub()?;
        self.fleet.wait_hub()?;
        let ready = began.elapsed();
        self.speak_to(None)?;
        let after = |what, look: fn(&Self) -> Result<bool, Error>| {
            self.until(what, |stage| Ok(look(stage)?.then(|| began.elapsed())))
        };
        let nodes = after("all nodes are listed", Self::nodes)?;
        let facts = after("all facts are listed", Self::facts)?;
        let full = after("all replicas are listed", |stage| {
            let picture = stage.picture()?;
            if picture.len() < stage.picture.len() {
                return Ok(false);
            }
            let touched = |(replica, place): &(&String, &String)| stage.picture.get(*replica) != Some(place);
            match picture.iter().find(touched) {
                None => Ok(true),
                Some((replica, place)) => Err(format!("{replica} was touched: it is {place}").into()),
            }
        })?;
        Ok([ready, nodes, facts, full])
    }

    /// Whether all nodes are listed, and ready.
    fn nodes(&self) -> Result<bool, Error> {
        let nodes: Vec<NodeView> = self.get(&["nodes"])?;
        Ok(nodes.iter().filter(|node| node.ready).count() == self.agents)
    }

    /// Whether the hosts of all nodes are described.
    fn facts(&self) -> Result<bool, Error> {
        let nodes: Vec<NodeView> = self.get(&["nodes", "-l", "fact/kernel"])?;
        Ok(nodes.len() == self.agents)
    }

    /// All replicas that are ready.
    fn picture(&self) -> Result<Picture, Error> {
        let replicas: Vec<ReplicaView> = self.get(&["replicas"])?;
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

    fn codeco(&self, arguments: &[&str]) -> Result<String, Error> {
        let (program, first) = self.program.split_first().ok_or("no program")?;
        let mut command = Command::new(program);
        command.args(first).args(arguments).env("CODECO_CONFIG", &self.contexts).env_remove("CODECO_CONTEXT");
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("codeco {} failed: {said}", arguments.join(" ")).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn get<T: DeserializeOwned>(&self, what: &[&str]) -> Result<Vec<T>, Error> {
        let list: List<T> = serde_json::from_str(&self.codeco(&[&["get"], what, &["-o", "json"]].concat())?)?;
        Ok(list.items)
    }

    fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Result<Option<T>, Error>) -> Result<T, Error> {
        let began = Instant::now();
        while began.elapsed() < DEADLINE {
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            std::thread::sleep(PAUSE);
        }
        Err(format!("waited {} s in vain until {what}", DEADLINE.as_secs()).into())
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
