//! `codeco brake`.

use clap::Subcommand;
use codeco_protocol::ids::ClusterName;

use crate::failure::Failure;
use crate::object::checked;
use crate::session::{Output, Session};

/// Subcommands of `brake`.
#[derive(Debug, Subcommand)]
pub(crate) enum BrakeCommand {
    /// Say that what is missing is gone: the nodes that a cluster's lead misses, or the cluster as a whole where the home
    /// asked misses it. What waits for them is placed anew. Of autonomous replicas that still run there a second copy
    /// starts until they are heard again.
    Release {
        /// The cluster.
        cluster: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

impl BrakeCommand {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let Self::Release { cluster, output } = self;
        let cluster: ClusterName = checked(cluster.strip_prefix("cluster/").unwrap_or(&cluster))?;
        let released = session.client()?.release_brake(&cluster)?;
        if let Some(yaml) = output.yaml() {
            return session.write_value(&released, yaml);
        }
        if let Some(replicas) = released.replicas {
            writeln!(
                session.stdout,
                "cluster/{cluster}: brake released, {replicas} replicas are placed anew"
            )?;
        }
        if released.home {
            let said = "counts as lost: its replicas may start elsewhere by the rules of their applications";
            writeln!(session.stdout, "cluster/{cluster} {said}")?;
        }
        Ok(())
    }
}
