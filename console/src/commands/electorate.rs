//! `codeco electorate`.

use clap::{Args, Subcommand};
use codeco_hub::api::ElectorateRequest;
use codeco_protocol::ids::{ClusterName, NodeName};
use serde::Serialize;

use crate::failure::Failure;
use crate::session::{Output, Session};

/// Subcommands of `electorate`.
#[derive(Debug, Subcommand)]
pub(crate) enum ElectorateCommand {
    /// Have one node vote alone in its cluster, because the majority of its voters is lost for good. Dangerous: if the
    /// others are only cut off, the cluster has two leads until they hear of it, and a replica may run twice.
    Replace(ReplaceArgs),
}

/// Arguments of `electorate replace`.
#[derive(Debug, Args)]
pub(crate) struct ReplaceArgs {
    /// The cluster.
    cluster: ClusterName,
    /// The node that votes alone from now on: best the voter whose journal is the newest.
    #[arg(long = "with", value_name = "NODE")]
    node: NodeName,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What was done, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    cluster: ClusterName,
    votes_alone: NodeName,
}

impl ElectorateCommand {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let Self::Replace(args) = self;
        let request = ElectorateRequest { with: args.node.clone() };
        session.client()?.replace_electorate(&args.cluster, &request)?;
        if let Some(yaml) = args.output.yaml() {
            let outcome = Outcome { cluster: args.cluster, votes_alone: args.node };
            return session.write_value(&outcome, yaml);
        }
        writeln!(session.stdout, "cluster/{}: {} votes alone", args.cluster, args.node)?;
        Ok(())
    }
}
