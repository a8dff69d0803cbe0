//! `codeco cluster`.

use clap::Subcommand;
use codeco_protocol::ids::ClusterName;

use crate::failure::Failure;
use crate::object::checked;
use crate::session::{Output, Session};

/// Subcommands of `cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Say that nothing runs in a cluster any more: its replicas may start elsewhere at once. Said of the applications whose
    /// home answers; of a cluster that still runs them it is a lie that lets replicas run twice.
    Lost {
        /// Its name.
        cluster: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

impl ClusterCommand {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let Self::Lost { cluster, output } = self;
        let cluster: ClusterName = checked(cluster.strip_prefix("cluster/").unwrap_or(&cluster))?;
        let lost = session.client()?.cluster_lost(&cluster)?;
        if let Some(yaml) = output.yaml() {
            return session.write_value(&lost, yaml);
        }
        let said =
            format!("cluster/{cluster} counts as lost: {} replicas may start elsewhere", lost.replicas);
        Ok(writeln!(session.stdout, "{said}")?)
    }
}
