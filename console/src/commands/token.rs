//! `codeco token`.

use clap::{ArgGroup, Args, Subcommand};
use codeco_hub::api::TokenRequest;
use codeco_protocol::api::rfc3339;
use codeco_protocol::ids::{ClusterName, Role};
use codeco_protocol::units::WallTime;

use crate::failure::Failure;
use crate::render::numbers::seconds;
use crate::session::{Output, Session};

/// Subcommands of `token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token with which one node or one hub joins the fleet, once.
    Create(CreateArgs),
}

/// Arguments of `token create`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("scope").required(true).args(["cluster", "hub"])))]
pub(crate) struct CreateArgs {
    /// For a node of this cluster.
    #[arg(long)]
    cluster: Option<ClusterName>,
    /// For a hub.
    #[arg(long)]
    hub: bool,
    /// How long it can be used, such as 90s, 30m, 1h or 2d.
    #[arg(long, default_value = "1h", value_parser = seconds)]
    ttl: u64,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl TokenCommand {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let Self::Create(args) = self;
        let whose =
            args.cluster.as_ref().map_or("a hub".to_owned(), |name| format!("a node of cluster {name}"));
        let scope = args.cluster.map_or(Role::Hub, Role::Node);
        let token = session.client()?.create_token(&TokenRequest { scope, ttl_seconds: args.ttl })?;
        if let Some(yaml) = args.output.yaml() {
            return session.write_value(&token, yaml);
        }
        // The token alone on standard output, for `$(codeco token create …)`.
        writeln!(session.stdout, "{}", token.token)?;
        let until = rfc3339(WallTime(token.expires_at));
        writeln!(session.stderr, "Works once, for {whose}, until {until}; hubs: {}", token.hubs.join(", "))?;
        Ok(())
    }
}
