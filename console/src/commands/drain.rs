//! `codeco drain`, `cordon` and `uncordon`.

use std::time::{Duration, Instant};

use clap::Args;
use codeco_hub::api::{UpkeepRequest, UpkeepWish};
use codeco_hub::fleet::Filter;
use codeco_protocol::api::{ClusterView, NodeView, ReplicaView, codes};
use codeco_protocol::ids::{ClusterName, NodeName};
use serde::Serialize;

use crate::client::Client;
use crate::failure::{ExitClass, Failure};
use crate::session::{Output, Session};

/// Pause between two looks at what is left.
const LOOK: Duration = Duration::from_millis(250);

/// What is meant: a node or a cluster.
#[derive(Debug, Clone)]
enum Place {
    Node(ClusterName, NodeName),
    Cluster(ClusterName),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(cluster, node) => write!(f, "node/{cluster}/{node}"),
            Self::Cluster(cluster) => write!(f, "cluster/{cluster}"),
        }
    }
}

/// Arguments of `cordon` and `uncordon`.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// [node/]CLUSTER/NODE, or cluster/CLUSTER (`uncordon` only).
    #[arg(value_name = "NODE|CLUSTER")]
    place: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Arguments of `drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// [node/]CLUSTER/NODE, or cluster/CLUSTER.
    #[arg(value_name = "NODE|CLUSTER")]
    place: String,
    /// Give up waiting after so many seconds; the drain goes on.
    #[arg(long, default_value_t = 300)]
    timeout: u64,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What became of it, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    object: String,
    upkeep: UpkeepWish,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved: Option<usize>,
}

impl PlaceArgs {
    pub(super) fn run(self, session: &mut Session<'_>, upkeep: UpkeepWish) -> Result<(), Failure> {
        let client = session.client()?;
        let place = find(&client, &self.place)?;
        set(&client, &place, upkeep)?;
        let object = place.to_string();
        match self.output.yaml() {
            Some(yaml) => session.write_value(&Outcome { object, upkeep, moved: None }, yaml),
            None => Ok(writeln!(session.stdout, "{object} {}", word(upkeep))?),
        }
    }
}

impl DrainArgs {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let client = session.client()?;
        let place = find(&client, &self.place)?;
        let upkeep = UpkeepWish::Draining;
        let table = self.output.yaml().is_none();
        let before = left(&client, &place)?;
        set(&client, &place, upkeep)?;
        if table {
            writeln!(session.stdout, "{place} draining, {} replicas to move", before.len())?;
        }
        let (began, mut known) = (Instant::now(), before.len());
        loop {
            let rest = left(&client, &place)?;
            if table && rest.len() != known {
                writeln!(session.stdout, "{place} {} left: {}", rest.len(), names(&rest))?;
                session.stdout.flush()?;
            }
            known = rest.len();
            if rest.is_empty() {
                break;
            }
            if began.elapsed() > Duration::from_secs(self.timeout) {
                let message = format!(
                    "{place}: {known} of {} replicas are still there after {} s: {}",
                    before.len(),
                    self.timeout,
                    names(&rest)
                );
                return Err(Failure::new(ExitClass::Timeout, codes::TIMEOUT, message)
                    .about(place.to_string())
                    .next("the drain goes on; `codeco explain app/NAME` says what a replica waits for"));
            }
            std::thread::sleep(LOOK);
        }
        let object = place.to_string();
        match self.output.yaml() {
            Some(yaml) => session.write_value(&Outcome { object, upkeep, moved: Some(before.len()) }, yaml),
            None => Ok(writeln!(session.stdout, "{object} drained")?),
        }
    }
}

fn names(rows: &[ReplicaView]) -> String {
    let names: Vec<String> = rows.iter().map(|r| format!("{}/{}-{}", r.app, r.service, r.index)).collect();
    names.join(", ")
}

fn word(upkeep: UpkeepWish) -> &'static str {
    match upkeep {
        UpkeepWish::Open => "uncordoned",
        UpkeepWish::Cordoned => "cordoned",
        UpkeepWish::Draining => "draining",
    }
}

/// Replicas that are at the place.
fn left(client: &Client, place: &Place) -> Result<Vec<ReplicaView>, Failure> {
    let mut rows = client.list::<ReplicaView>("replicas", &Filter::default())?.items;
    rows.retain(|row| match place {
        Place::Node(cluster, node) => {
            row.cluster.as_ref() == Some(cluster) && row.node.as_ref() == Some(node)
        }
        Place::Cluster(cluster) => row.cluster.as_ref() == Some(cluster),
    });
    Ok(rows)
}

fn set(client: &Client, place: &Place, upkeep: UpkeepWish) -> Result<(), Failure> {
    let request = UpkeepRequest { upkeep };
    match place {
        Place::Node(cluster, node) => client.upkeep(&format!("nodes/{cluster}/{node}/upkeep"), request),
        Place::Cluster(cluster) => client.upkeep(&format!("clusters/{cluster}/upkeep"), request),
    }
}

/// The one node or cluster of that name.
fn find(client: &Client, name: &str) -> Result<Place, Failure> {
    if let Some(wanted) = name.strip_prefix("cluster/") {
        let clusters = client.list::<ClusterView>("clusters", &Filter::default())?.items;
        let found = clusters.into_iter().find(|cluster| cluster.name.as_str() == wanted);
        return found
            .map(|cluster| Place::Cluster(cluster.name))
            .ok_or_else(|| Failure::not_found(format!("cluster/{wanted}")).next("codeco get clusters"));
    }
    let wanted = name.strip_prefix("node/").unwrap_or(name);
    let mut nodes = client.list::<NodeView>("nodes", &Filter::default())?.items;
    nodes.retain(|node| node.name.as_str() == wanted || format!("{}/{}", node.cluster, node.name) == wanted);
    match (nodes.len(), nodes.pop()) {
        (1, Some(node)) => Ok(Place::Node(node.cluster, node.name)),
        (0, _) | (_, None) => Err(Failure::not_found(format!("node/{wanted}")).next("codeco get nodes")),
        (count, _) => Err(Failure::usage(format!("{count} clusters have a node called {wanted}"))
            .next("write CLUSTER/NODE")),
    }
}
