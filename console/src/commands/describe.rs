//! `codeco describe`.

use clap::Args;
use codeco_hub::fleet::Filter;
use codeco_protocol::api::{
    AppView, ClusterView, Condition, DecisionView, EventView, FactView, NodeView, ReplicaView, rfc3339,
};
use codeco_protocol::units::WallTime;
use std::fmt::Write as _;

use super::{NamespaceArg, now, only};
use crate::client::Client;
use crate::failure::Failure;
use crate::object::{self, Kind};
use crate::render::clusters::voters;
use crate::render::numbers::{age, since};
use crate::render::{self, Fields, Row, Width, clean};
use crate::session::Session;

/// Events shown of one object.
const EVENTS_SHOWN: usize = 20;

/// Arguments of `describe`.
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// app/NAME, replica/APP/SERVICE-INDEX, node/NAME or cluster/NAME.
    #[arg(num_args = 1..=2, required = true, value_name = "KIND/NAME")]
    object: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceArg,
}

impl DescribeArgs {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let (kind, name) = object::parse(&self.object)?;
        let name = name.ok_or_else(|| Failure::usage(format!("which {kind}? write {kind}/NAME")))?;
        let ask = Ask { client: session.client()?, now: now(), paint: session.paint };
        let text = match kind {
            Kind::App => ask.app(&self.namespace, &name)?,
            Kind::Replica => ask.replica(&self.namespace, &name)?,
            Kind::Node => ask.node(&name)?,
            Kind::Cluster => ask.cluster(&name)?,
            Kind::Event | Kind::Decision | Kind::Actor | Kind::Link | Kind::Cert | Kind::Model => {
                return Err(Failure::usage(format!("{kind}s are not described"))
                    .next(format!("codeco get {kind}s -o wide shows all there is")));
            }
        };
        Ok(session.stdout.write_all(text.as_bytes())?)
    }
}

struct Ask {
    client: Client,
    now: WallTime,
    paint: bool,
}

impl Ask {
    fn one<R: Row>(&self, kind: Kind, name: &str, filter: &Filter) -> Result<R, Failure> {
        let list = self.client.list::<R>(R::PATH, filter)?;
        only(list.items.into_iter().filter(|item| item.is_called(name)).collect(), kind, name)
    }

    fn app(&self, namespace: &NamespaceArg, name: &str) -> Result<String, Failure> {
        let filter = namespace.filter(Some(name))?;
        let app: AppView = self.one(Kind::App, name, &filter)?;
        let replicas = self.client.list::<ReplicaView>("replicas", &filter)?.items;
        let mut text = app_fields(&app, self.now).render();
        text.push_str("\nServices:\n");
        for service in &app.services {
            let (ready, wanted) = (service.replicas_ready, service.replicas_wanted);
            let _ = writeln!(
                text,
                "  {}: {ready}/{wanted} ready, each {}, when cut off {}",
                service.name, service.resources, service.partition_policy
            );
        }
        if !app.channels.is_empty() {
            text.push_str("\nChannels:\n");
        }
        for channel in &app.channels {
            let to_app = channel.to_app.as_ref().map(|app| format!("{app}/")).unwrap_or_default();
            let kind = if channel.assured { "assured" } else { "best effort" };
            let bandwidth = channel.bandwidth.map(|b| format!(", at least {b}")).unwrap_or_default();
            let delay = channel.delay_max.map(|d| format!(", at most {d}")).unwrap_or_default();
            let _ = writeln!(
                text,
                "  {}: {} to {to_app}{}, {kind}{bandwidth}{delay}",
                clean(&channel.name),
                channel.from,
                channel.to
            );
        }
        if !app.intents.is_empty() {
            text.push_str("\nIntents:\n");
        }
        for intent in &app.intents {
            let _ = writeln!(
                text,
                "  {}: {}: {}",
                clean(&intent.field),
                clean(&intent.value),
                clean(&intent.effect)
            );
        }
        text.push_str(&conditions(&app.conditions, self.now));
        text.push_str(&self.section("Replicas", &replicas));
        text.push_str(&self.events(Kind::App, name)?);
        Ok(text)
    }

    fn replica(&self, namespace: &NamespaceArg, name: &str) -> Result<String, Failure> {
        let filter = namespace.filter(name.split_once('/').map(|(app, _)| app))?;
        let replica: ReplicaView = self.one(Kind::Replica, name, &filter)?;
        let filter = namespace.filter(Some(replica.app.as_str()))?;
        let mut decisions = self.client.list::<DecisionView>("decisions", &filter)?.items;
        decisions.retain(|d| d.service == replica.service && d.index == replica.index);
        let mut text = replica_fields(&replica, self.now).render();
        text.push_str(&self.section("Decisions", &decisions));
        let full = format!("{}/{}-{}", replica.app, replica.service, replica.index);
        text.push_str(&self.events(Kind::Replica, &full)?);
        Ok(text)
    }

    fn node(&self, name: &str) -> Result<String, Failure> {
        let node: NodeView = self.one(Kind::Node, name, &Filter::default())?;
        let filter = Filter {
            cluster: Some(node.cluster.clone()),
            node: Some(node.name.clone()),
            ..Filter::default()
        };
        let replicas = self.client.list::<ReplicaView>("replicas", &filter)?.items;
        let mut text = node_fields(&node, self.now).render();
        text.push_str(&facts(&node.facts));
        text.push_str(&conditions(&node.conditions, self.now));
        text.push_str(&self.section("Replicas", &replicas));
        text.push_str(&self.events(Kind::Node, &format!("{}/{}", node.cluster, node.name))?);
        Ok(text)
    }

    fn cluster(&self, name: &str) -> Result<String, Failure> {
        let cluster: ClusterView = self.one(Kind::Cluster, name, &Filter::default())?;
        let filter = Filter { cluster: Some(cluster.name.clone()), ..Filter::default() };
        let nodes = self.client.list::<NodeView>("nodes", &filter)?.items;
        let replicas = self.client.list::<ReplicaView>("replicas", &filter)?.items;
        let mut text = cluster_fields(&cluster).render();
        text.push_str(&conditions(&cluster.conditions, self.now));
        text.push_str(&self.section("Nodes", &nodes));
        text.push_str(&self.section("Replicas", &replicas));
        text.push_str(&self.events(Kind::Cluster, name)?);
        Ok(text)
    }

    fn section<R: Row>(&self, title: &str, rows: &[R]) -> String {
        if rows.is_empty() {
            return format!("\n{title}: none\n");
        }
        let width = Width { paint: self.paint, ..Width::default() };
        let lines = render::table(rows, self.now).lines(width);
        let body: String = lines.iter().map(|line| format!("  {line}\n")).collect();
        format!("\n{title}:\n{body}")
    }

    fn events(&self, kind: Kind, name: &str) -> Result<String, Failure> {
        let mut events = self.client.list::<EventView>("events", &Filter::default())?.items;
        let object = format!("{kind}/{name}");
        events.retain(|event| event.object.to_string() == object);
        let first = events.len().saturating_sub(EVENTS_SHOWN);
        Ok(self.section("Events", &events[first..]))
    }
}

fn app_fields(app: &AppView, now: WallTime) -> Fields {
    let clusters: Vec<String> = app.clusters.iter().map(ToString::to_string).collect();
    Fields::default()
        .with("Name", &app.name)
        .with("Namespace", &app.namespace)
        .with("Uid", app.uid)
        .with("Status", format!("{:?}", app.phase))
        .with("Ready", format!("{}/{}", app.replicas_ready, app.replicas_wanted))
        .with("Profile", app.profile)
        .with("Clusters", clusters.join(", "))
        .with("Generation", format!("{} ({} acted on)", app.generation, app.observed_generation))
        .with("Durable on", format!("{} members", app.durable_on))
        .with("Created", format!("{} ({} ago)", rfc3339(app.created_at), since(app.created_at, now)))
}

fn replica_fields(replica: &ReplicaView, now: WallTime) -> Fields {
    let stale = if replica.stale { " (stale: this tells the past)" } else { "" };
    Fields::default()
        .with("Name", format!("{}/{}-{}", replica.app, replica.service, replica.index))
        .with("Namespace", &replica.namespace)
        .with("Status", format!("{:?}{stale}", replica.phase))
        .with("Ready", if replica.ready { "yes" } else { "no" })
        .maybe("Cluster", replica.cluster.as_ref())
        .maybe("Node", replica.node.as_ref())
        .maybe("Token", replica.token.as_ref())
        .maybe("Mandate", replica.mandate.as_ref())
        .maybe("Decision", replica.decision.as_ref())
        .with("Since", format!("{} ({} ago)", rfc3339(replica.since), since(replica.since, now)))
        .with("Restarts", replica.restarts)
        .maybe("Process", replica.pid.as_ref())
        .with("Message", &replica.message)
        .with("Seen", format!("{} ago", age(replica.age_ms)))
}

fn node_fields(node: &NodeView, now: WallTime) -> Fields {
    let labels: Vec<String> = node.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expires = node.certificate_expires.map(|at| match at.0.checked_sub(now.0) {
        Some(left) => format!("{} ({} left)", rfc3339(at), age(left)),
        None => format!("{} (expired)", rfc3339(at)),
    });
    Fields::default()
        .with("Name", &node.name)
        .with("Cluster", &node.cluster)
        .with("Id", node.id)
        .with("Status", format!("{:?}", node.status))
        .with("Role", if node.lead { "lead" } else { "node" })
        .with("Capacity", &node.capacity)
        .with("Used", &node.used)
        .with("Free", &node.free)
        .with("Replicas", node.replicas)
        .with("Version", &node.version)
        .maybe("Address", node.address.as_ref())
        .maybe("Incarnation", node.incarnation.as_ref())
        .maybe("Certificate", expires.as_ref())
        .with("Labels", labels.join(", "))
        .with("Seen", format!("{} ago", age(node.age_ms)))
}

fn cluster_fields(cluster: &ClusterView) -> Fields {
    Fields::default()
        .with("Name", &cluster.name)
        .with("Status", format!("{:?}", cluster.status))
        .maybe("Lead", cluster.lead.as_ref())
        .with("Term", cluster.term)
        .maybe(
            "Electorate",
            cluster.electorate.as_ref().map(|e| format!("{}, version {}", voters(e), e.version)).as_ref(),
        )
        .with("Nodes", format!("{}/{} ready", cluster.nodes_ready, cluster.nodes))
        .with("Capacity", &cluster.capacity)
        .with("Free", &cluster.free)
        .with("Replicas", cluster.replicas)
        .with("Seen", format!("{} ago", age(cluster.age_ms)))
}

/// Every fact with where it comes from and how old it may be.
fn facts(facts: &[FactView]) -> String {
    if facts.is_empty() {
        return "\nFacts: none heard yet\n".to_owned();
    }
    let width = facts.iter().map(|fact| fact.name.chars().count()).max().unwrap_or(0);
    let mut text = "\nFacts:\n".to_owned();
    for fact in facts {
        let source = format!("{:?}", fact.source).to_lowercase();
        let line =
            format!("{:<width$}   {} ({source}, at most {} old)", fact.name, fact.value, age(fact.age_ms));
        let _ = writeln!(text, "  {}", clean(&line));
    }
    text
}

fn conditions(conditions: &[Condition], now: WallTime) -> String {
    if conditions.is_empty() {
        return String::new();
    }
    let mut text = "\nConditions:\n".to_owned();
    for condition in conditions {
        let line = format!(
            "{}={:?} since {}: {}: {}",
            condition.kind,
            condition.status,
            since(condition.last_transition_time, now),
            condition.reason,
            condition.message
        );
        let _ = writeln!(text, "  {}", clean(&line));
    }
    text
}
