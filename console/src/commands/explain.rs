//! `codeco explain`.

use clap::Args;
use codeco_protocol::api::{DecisionLevel, DecisionView, List, NodeView};

use super::{NamespaceArg, now, one_called};
use crate::client::Client;
use crate::failure::Failure;
use crate::object::{self, Kind, name_of};
use crate::render::explain::{render, why_not};
use crate::session::{Output, Session};

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// app/NAME or app NAME.
    #[arg(num_args = 1..=2, required = true, value_name = "app/NAME")]
    object: Vec<String>,
    /// Only of this service.
    #[arg(long)]
    service: Option<String>,
    /// Only of this copy.
    #[arg(long)]
    index: Option<u32>,
    /// Why it is not on this node or in this cluster.
    #[arg(long, value_name = "node/NAME|cluster/NAME")]
    why_not: Option<String>,
    /// Also decisions that later ones have replaced.
    #[arg(long)]
    all: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    namespace: NamespaceArg,
}

impl ExplainArgs {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let name = name_of(&self.object, Kind::App)?;
        let filter = self.namespace.filter(Some(&name))?;
        let client = session.client()?;
        let mut list = client.list::<DecisionView>("decisions", &filter)?;
        session.warn(&list.warnings)?;
        list.items.retain(|d| self.service.as_deref().is_none_or(|service| service == d.service.as_str()));
        list.items.retain(|d| self.index.is_none_or(|index| index == d.index));
        if !self.all {
            list.items = newest(list.items);
        }
        if list.items.is_empty() {
            return Err(Failure::not_found(format!("app/{name}")).next(
                "no decision about it is known: see `codeco get apps`, and `codeco get events` if it is there",
            ));
        }
        match (&self.why_not, self.output.yaml()) {
            (_, Some(yaml)) => session.write_value(&list, yaml),
            (Some(place), None) => explain_why_not(&client, &list, place, session),
            (None, None) => {
                let texts: Vec<String> = list.items.iter().map(|d| render(d, now(), session.paint)).collect();
                Ok(session.stdout.write_all(texts.join("\n").as_bytes())?)
            }
        }
    }
}

/// The newest decision about each replica at each level, clusters before nodes.
fn newest(mut decisions: Vec<DecisionView>) -> Vec<DecisionView> {
    let level = |d: &DecisionView| u8::from(d.level == DecisionLevel::Node);
    decisions.sort_by(|a, b| {
        let key = |d: &DecisionView| (d.service.clone(), d.index, level(d));
        key(a).cmp(&key(b)).then(b.at.cmp(&a.at))
    });
    decisions.dedup_by(|a, b| a.service == b.service && a.index == b.index && a.level == b.level);
    decisions
}

fn explain_why_not(
    client: &Client,
    list: &List<DecisionView>,
    place: &str,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let place_words = [place.to_owned()];
    let (kind @ (Kind::Node | Kind::Cluster), Some(name)) = object::parse(&place_words)? else {
        return Err(Failure::usage(format!("{place:?}: expected node/NAME or cluster/NAME")));
    };
    let (level, name, cluster) = match kind {
        Kind::Node => {
            let node: NodeView = one_called(client, kind, &name)?;
            (DecisionLevel::Node, format!("{}/{}", node.cluster, node.name), Some(node.cluster.to_string()))
        }
        // Decisions may tell of clusters that are not there any more.
        _ => (DecisionLevel::Cluster, name, None),
    };
    for decision in list.items.iter().filter(|d| d.level == level) {
        let of_cluster = list.items.iter().find(|d| {
            d.level == DecisionLevel::Cluster && d.service == decision.service && d.index == decision.index
        });
        let answer = why_not(decision, &name)
            .or_else(|| not_in_its_cluster(&name, cluster.as_deref()?, of_cluster?))
            .unwrap_or_else(|| {
                format!("{name} was not looked at: it was not known, or not of the chosen cluster")
            });
        let replica = format!("{}/{}-{}", decision.app, decision.service, decision.index);
        writeln!(session.stdout, "{replica}: {answer}")?;
    }
    Ok(())
}

/// A node is not looked at when its cluster lost.
fn not_in_its_cluster(node: &str, cluster: &str, decision: &DecisionView) -> Option<String> {
    if decision.chosen.as_deref() == Some(cluster) {
        return None;
    }
    let why = why_not(decision, cluster)?;
    Some(format!("{node} is in cluster {cluster}, which was not chosen: {why}"))
}
