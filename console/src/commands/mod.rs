//! The commands, each in a file.

mod apply;
mod brake;
mod certs;
mod cluster;
mod context;
mod delete;
mod describe;
mod doctor;
mod drain;
mod electorate;
mod explain;
mod fault;
mod get;
mod logs;
mod node;
mod plan;
mod simulate;
mod token;
mod version;

use clap::{Args, Subcommand};
use codeco_hub::api::UpkeepWish;
use codeco_hub::fleet::Filter;
use codeco_protocol::api::NAMESPACE_DEFAULT;
use codeco_protocol::identity::TrustClock;
use codeco_protocol::units::WallTime;

use crate::client::Client;
use crate::failure::Failure;
use crate::object::{Kind, checked};
use crate::render::Row;
use crate::session::Session;

/// Commands that talk to a hub.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Apply the applications of files: create them or change them.
    Apply(apply::ApplyArgs),
    /// What applying files would do: which replica would go where, and why. Nothing is changed.
    Plan(plan::PlanArgs),
    /// Keep new work away from a node.
    Cordon(drain::PlaceArgs),
    /// Let work come again to a node or a cluster.
    Uncordon(drain::PlaceArgs),
    /// Move all work off a node or a cluster, and wait until that is done.
    Drain(drain::DrainArgs),
    /// Ask for the end of applications.
    Delete(delete::DeleteArgs),
    /// List apps, replicas, nodes, clusters, events, decisions, actors, links, certs or models.
    Get(get::GetArgs),
    /// Everything about one app, replica, node or cluster.
    Describe(describe::DescribeArgs),
    /// Why an application is where it is, or why it is not somewhere.
    Explain(explain::ExplainArgs),
    /// Remove nodes that are gone.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Look for what keeps a fleet from working: UDP, MTU, clocks, disks, ports, certificates.
    Doctor(doctor::DoctorArgs),
    /// What a replica has written.
    Logs(logs::LogsArgs),
    /// Make tokens with which nodes and hubs join, and people and programs use the API.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Replace the voters of a cluster whose majority is lost for good.
    #[command(subcommand)]
    Electorate(electorate::ElectorateCommand),
    /// List certificates: whose, until when, from whom, and how they stand.
    Certs(certs::CertsArgs),
    /// Revoke certificates.
    #[command(subcommand)]
    Cert(certs::CertCommand),
    /// The authority above all certificates.
    #[command(subcommand)]
    Ca(certs::CaCommand),
    /// Versions of this command and of the hub.
    Version(version::VersionArgs),
    /// List and choose hubs to talk to.
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Say what has become of a cluster.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Release brakes: say that what is missing is gone.
    #[command(subcommand)]
    Brake(brake::BrakeCommand),
    /// Play whole fleets and what goes wrong in them, in virtual time, and check every promise at every step.
    Simulate(simulate::SimulateArgs),
    /// Cause faults, to see that they are survived.
    #[command(subcommand)]
    Fault(fault::FaultCommand),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        match self {
            Self::Apply(args) => args.run(session),
            Self::Plan(args) => args.run(session),
            Self::Cordon(args) => args.run(session, UpkeepWish::Cordoned),
            Self::Uncordon(args) => args.run(session, UpkeepWish::Open),
            Self::Drain(args) => args.run(session),
            Self::Delete(args) => args.run(session),
            Self::Get(args) => args.run(session),
            Self::Describe(args) => args.run(session),
            Self::Explain(args) => args.run(session),
            Self::Node(command) => command.run(session),
            Self::Doctor(args) => args.run(session),
            Self::Logs(args) => args.run(session),
            Self::Token(command) => command.run(session),
            Self::Electorate(command) => command.run(session),
            Self::Certs(args) => args.run(session),
            Self::Cert(command) => command.run(session),
            Self::Ca(command) => command.run(session),
            Self::Version(args) => args.run(session),
            Self::Context(command) => command.run(session),
            Self::Cluster(command) => command.run(session),
            Self::Brake(command) => command.run(session),
            Self::Simulate(args) => args.run(session),
            Self::Fault(command) => command.run(session),
        }
    }
}

/// `-n`.
#[derive(Debug, Clone, Args)]
pub(crate) struct NamespaceArg {
    /// Namespace of the application.
    #[arg(short = 'n', long, default_value = NAMESPACE_DEFAULT)]
    namespace: String,
}

impl NamespaceArg {
    /// A filter for this namespace, and perhaps for one application.
    fn filter(&self, app: Option<&str>) -> Result<Filter, Failure> {
        let app = app.map(checked).transpose()?;
        Ok(Filter { namespace: Some(checked(&self.namespace)?), app, ..Filter::default() })
    }
}

/// The object of this name, or why there is not exactly one.
fn one_called<R: Row>(client: &Client, kind: Kind, name: &str) -> Result<R, Failure> {
    let list = client.list::<R>(R::PATH, &Filter::default())?;
    only(list.items.into_iter().filter(|item| item.is_called(name)).collect(), kind, name)
}

fn only<R: Row>(mut found: Vec<R>, kind: Kind, name: &str) -> Result<R, Failure> {
    match (found.len(), found.pop()) {
        (1, Some(only)) => Ok(only),
        (0, _) | (_, None) => {
            Err(Failure::not_found(format!("{kind}/{name}")).next(format!("codeco get {}", R::PATH)))
        }
        (count, _) => Err(Failure::usage(format!("{kind}/{name} names {count} {}", R::PATH))
            .next(format!("write its full name: codeco get {}", R::PATH))),
    }
}

fn now() -> WallTime {
    TrustClock::system().now()
}
