//! `codeco node`.

use clap::Subcommand;

use crate::failure::Failure;
use crate::object::checked;
use crate::session::{Output, Session};

/// Subcommands of `node`.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Remove a node for good that is gone and will not come back. Refused while it answers, and until its lease has been
    /// waited out.
    Forget {
        /// [node/]CLUSTER/NODE.
        node: String,
        /// You know that nothing of it runs any more: do not wait for its lease to end.
        #[arg(long)]
        force: bool,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

impl NodeCommand {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let Self::Forget { node, force, output } = self;
        let name = node.strip_prefix("node/").unwrap_or(&node);
        let (cluster, short) = name
            .split_once('/')
            .ok_or_else(|| Failure::usage(format!("{node:?} is no node")).next("write CLUSTER/NODE"))?;
        let forgotten = session.client()?.forget(&checked(cluster)?, &checked(short)?, force)?;
        session.warn(&forgotten.warnings)?;
        match output.yaml() {
            Some(yaml) => session.write_value(&forgotten, yaml),
            None => Ok(writeln!(session.stdout, "node/{name} forgotten")?),
        }
    }
}
