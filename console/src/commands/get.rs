//! `codeco get`.

use std::time::Duration;

use clap::Args;
use codeco_hub::fleet::Filter;
use codeco_protocol::api::{
    ActorView, AppView, ClusterView, DecisionView, EventView, LinkView, List, NAMESPACE_DEFAULT, NodeView,
    ReplicaView, Selector,
};

use super::now;
use crate::client::Client;
use crate::failure::{ExitClass, Failure};
use crate::object::{self, Kind, checked};
use crate::render::numbers::seconds;
use crate::render::{self, Row, Width};
use crate::session::{Output, Session};

/// Pause between two looks of `--watch`.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// apps, replicas, nodes, clusters, events, decisions, actors or links; then a name, if only one is wanted.
    #[arg(num_args = 1..=2, required = true, value_name = "KIND [NAME]")]
    object: Vec<String>,
    /// Namespace of the applications.
    #[arg(short = 'n', long, default_value = NAMESPACE_DEFAULT)]
    namespace: String,
    /// Applications of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only of this cluster.
    #[arg(long)]
    cluster: Option<String>,
    /// Only of this node.
    #[arg(long)]
    node: Option<String>,
    /// Only of this application.
    #[arg(long)]
    app: Option<String>,
    /// Only decisions about this replica: [APP/]SERVICE-INDEX.
    #[arg(long)]
    replica: Option<String>,
    /// Only events and decisions of so long ago, such as 90s, 30m or 2h.
    #[arg(long, value_parser = seconds, value_name = "TIME")]
    since: Option<u64>,
    /// Only nodes with such labels or facts, as kubectl has it: zone=a,tier!=test,disk in (ssd,nvme),!old,fact/os.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// At most so many, the newest.
    #[arg(long)]
    limit: Option<u32>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Go on, and print what changes.
    #[arg(short, long)]
    watch: bool,
}

impl GetArgs {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let (kind, name) = object::parse(&self.object)?;
        let filter = self.filter(kind)?;
        match kind {
            Kind::App => self.print::<AppView>(session, kind, name.as_deref(), &filter),
            Kind::Replica => self.print::<ReplicaView>(session, kind, name.as_deref(), &filter),
            Kind::Node => self.print::<NodeView>(session, kind, name.as_deref(), &filter),
            Kind::Cluster => self.print::<ClusterView>(session, kind, name.as_deref(), &filter),
            Kind::Event => self.print::<EventView>(session, kind, name.as_deref(), &filter),
            Kind::Decision => self.print::<DecisionView>(session, kind, name.as_deref(), &filter),
            Kind::Actor => self.print::<ActorView>(session, kind, name.as_deref(), &filter),
            Kind::Link => self.print::<LinkView>(session, kind, name.as_deref(), &filter),
        }
    }

    fn filter(&self, kind: Kind) -> Result<Filter, Failure> {
        let only = |given: bool, option: &str, kinds: &[Kind]| {
            if !given || kinds.contains(&kind) {
                return Ok(());
            }
            let names: Vec<String> = kinds.iter().map(|kind| format!("{kind}s")).collect();
            Err(Failure::usage(format!("--{option} is not for {kind}s, but for {}", names.join(" and "))))
        };
        only(self.selector.is_some(), "selector", &[Kind::Node])?;
        only(self.replica.is_some(), "replica", &[Kind::Decision])?;
        only(self.since.is_some(), "since", &[Kind::Event, Kind::Decision])?;
        // What is wrong with it is told before anybody is asked.
        let selector = self.selector.as_deref().map(checked::<Selector>).transpose()?;
        let namespaced = kind.namespaced() && !self.all_namespaces;
        Ok(Filter {
            namespace: namespaced.then(|| checked(&self.namespace)).transpose()?,
            app: self.app.as_deref().map(checked).transpose()?,
            cluster: self.cluster.as_deref().map(checked).transpose()?,
            node: self.node.as_deref().map(checked).transpose()?,
            limit: self.limit,
            selector: selector.map(|selector| selector.to_string()),
            replica: self.replica.clone(),
            since: self.since.map(|seconds| now().0.saturating_sub(seconds.saturating_mul(1_000))),
        })
    }

    fn print<R: Row>(
        &self,
        session: &mut Session<'_>,
        kind: Kind,
        name: Option<&str>,
        filter: &Filter,
    ) -> Result<(), Failure> {
        let client = session.client()?;
        if self.watch {
            return self.watch::<R>(session, &client, name, filter);
        }
        let list = named(client.list::<R>(R::PATH, filter)?, name);
        session.warn(&list.warnings)?;
        if let (Some(name), true) = (name, list.items.is_empty()) {
            return Err(Failure::not_found(format!("{kind}/{name}")).next(format!("codeco get {}", R::PATH)));
        }
        if let Some(yaml) = self.output.yaml() {
            return match (name, list.items.as_slice()) {
                (Some(_), [only]) => session.write_value(only, yaml),
                _ => session.write_value(&list, yaml),
            };
        }
        if list.items.is_empty() {
            let place = filter.namespace.as_ref().map(|n| format!(" in namespace {n}")).unwrap_or_default();
            return Ok(writeln!(session.stderr, "No {} found{place}.", R::PATH)?);
        }
        let table = render::table(&list.items, now());
        Ok(session.stdout.write_all(table.render(self.width(session)).as_bytes())?)
    }

    fn width(&self, session: &Session<'_>) -> Width {
        Width { wide: self.output == Output::Wide, all_namespaces: self.all_namespaces, paint: session.paint }
    }

    /// Prints rows that are new or changed, until somebody stops it. A hub that is away for a while is told once.
    fn watch<R: Row>(
        &self,
        session: &mut Session<'_>,
        client: &Client,
        name: Option<&str>,
        filter: &Filter,
    ) -> Result<(), Failure> {
        let (mut known, mut away, mut headed) = (Vec::new(), false, false);
        loop {
            match client.list::<R>(R::PATH, filter) {
                Ok(list) => {
                    away = false;
                    let list = named(list, name);
                    let table = render::table(&list.items, now());
                    let news = table.news();
                    let lines = table.lines(self.width(session));
                    if let (Some(header), false) = (lines.first(), headed) {
                        writeln!(session.stdout, "{header}")?;
                        headed = true;
                    }
                    for (row, line) in news.iter().zip(lines.iter().skip(1)) {
                        if !known.contains(row) {
                            writeln!(session.stdout, "{line}")?;
                        }
                    }
                    session.stdout.flush()?;
                    known = news;
                }
                Err(failure) if matches!(failure.class, ExitClass::Unreachable | ExitClass::Timeout) => {
                    if !away {
                        write!(session.stderr, "{}", failure.to_text())?;
                    }
                    away = true;
                }
                Err(failure) => return Err(failure),
            }
            std::thread::sleep(WATCH_PAUSE);
        }
    }
}

fn named<R: Row>(mut list: List<R>, name: Option<&str>) -> List<R> {
    if let Some(name) = name {
        list.items.retain(|item| item.is_called(name));
    }
    list
}
