//! `codeco token`.

use clap::{ArgGroup, Args, Subcommand};
use codeco_hub::api::{ApiRole, ApiTokenRequest, TokenRequest};
use codeco_protocol::api::rfc3339;
use codeco_protocol::ids::{ClusterName, Role};
use codeco_protocol::units::WallTime;

use crate::failure::Failure;
use crate::render::numbers::seconds;
use crate::session::{Output, Session};

/// Subcommands of `token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token with which one node or one hub joins the fleet, once; or one with which a person or a program uses
    /// the API.
    Create(CreateArgs),
}

/// Arguments of `token create`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("scope").required(true).args(["cluster", "hub", "api"])))]
pub(crate) struct CreateArgs {
    /// For a node of this cluster.
    #[arg(long)]
    cluster: Option<ClusterName>,
    /// With --cluster: the node that joins with it founds the electorate of its cluster, and leads it at first. For the
    /// first node of a cluster, once: of two founders each would follow its own lead.
    #[arg(long, requires = "cluster")]
    founds: bool,
    /// For a hub.
    #[arg(long)]
    hub: bool,
    /// For the API, with this role: viewer, operator or admin.
    #[arg(long, value_name = "ROLE", requires = "name")]
    api: Option<ApiRole>,
    /// Whose the API token is: shown where its bearer is refused.
    #[arg(long, requires = "api")]
    name: Option<String>,
    /// How long a join token can be used, such as 90s, 30m, 1h or 2d.
    #[arg(long, default_value = "1h", value_parser = seconds)]
    ttl: u64,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl TokenCommand {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let Self::Create(args) = self;
        if args.name.is_some() && args.api.is_none() {
            return Err(Failure::usage("--name names an API token, and none is asked for")
                .next("with --cluster or --hub leave it out; for the API add --api ROLE"));
        }
        if let (Some(role), Some(name)) = (args.api, args.name) {
            let made = session.client()?.create_api_token(&ApiTokenRequest { name, role })?;
            if let Some(yaml) = args.output.yaml() {
                return session.write_value(&made, yaml);
            }
            writeln!(session.stdout, "{}", made.token)?;
            writeln!(
                session.stderr,
                "For {}, as {}, until it is revoked; shown only now",
                made.name, made.role
            )?;
            return Ok(());
        }
        let whose =
            args.cluster.as_ref().map_or("a hub".to_owned(), |name| format!("a node of cluster {name}"));
        let scope = args.cluster.map_or(Role::Hub, Role::Node);
        let token = session.client()?.create_token(&TokenRequest {
            scope,
            ttl_seconds: args.ttl,
            founds: args.founds,
        })?;
        if let Some(yaml) = args.output.yaml() {
            return session.write_value(&token, yaml);
        }
        // The token alone on standard output, for `$(codeco token create …)`.
        writeln!(session.stdout, "{}", token.token)?;
        let until = rfc3339(WallTime(token.expires_at));
        writeln!(session.stderr, "Works once, for {whose}, until {until}; hubs: {}", token.hubs.join(", "))?;
        if args.founds {
            writeln!(session.stderr, "Its bearer founds the electorate of that cluster")?;
        }
        Ok(())
    }
}
