//! `codeco node`.

use std::time::{Duration, Instant};

use clap::Subcommand;
use codeco_hub::api::Forgotten;
use codeco_protocol::api::codes;
use codeco_protocol::ids::{ClusterName, NodeName};

use crate::client::Client;
use crate::failure::{ExitClass, Failure};
use crate::object::checked;
use crate::session::{Output, Session};

/// Pause between two attempts to have a node forgotten that has left.
const LOOK: Duration = Duration::from_millis(250);

/// Subcommands of `node`.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Have a drained node stop for good: it says good-bye, its agent ends, and it is removed as soon as its lease has been
    /// waited out. Refused unless it is drained and has nothing left. To stop an agent for a while, as for an upgrade, just
    /// stop it: it stays a member.
    Leave {
        /// [node/]CLUSTER/NODE.
        node: String,
        /// Give up after so many seconds; what has left is removed by `codeco node forget` then.
        #[arg(long, default_value_t = 120)]
        timeout: u64,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
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
        let client = session.client()?;
        let (name, forgotten, word, output) = match self {
            Self::Leave { node, timeout, output } => {
                let (name, cluster, short) = parts(&node)?;
                client.leave(&cluster, &short)?;
                let wait = Duration::from_secs(timeout);
                (name, forget_in_time(&client, &cluster, &short, wait)?, "left", output)
            }
            Self::Forget { node, force, output } => {
                let (name, cluster, short) = parts(&node)?;
                (name, client.forget(&cluster, &short, force)?, "forgotten", output)
            }
        };
        session.warn(&forgotten.warnings)?;
        match output.yaml() {
            Some(yaml) => session.write_value(&forgotten, yaml),
            None => Ok(writeln!(session.stdout, "node/{name} {word}")?),
        }
    }
}

fn parts(node: &str) -> Result<(String, ClusterName, NodeName), Failure> {
    let name = node.strip_prefix("node/").unwrap_or(node);
    let (cluster, short) = name
        .split_once('/')
        .ok_or_else(|| Failure::usage(format!("{node:?} is no node")).next("write CLUSTER/NODE"))?;
    Ok((name.to_owned(), checked(cluster)?, checked(short)?))
}

/// Its process ends, its lease is waited out, and where it led its cluster somebody else is elected: all of that takes
/// a moment, during which it cannot be forgotten.
fn forget_in_time(
    client: &Client,
    cluster: &ClusterName,
    node: &NodeName,
    wait: Duration,
) -> Result<Forgotten, Failure> {
    let began = Instant::now();
    loop {
        match client.forget(cluster, node, false) {
            Err(failure) if began.elapsed() < wait && is_passing(&failure) => std::thread::sleep(LOOK),
            Err(failure) if is_passing(&failure) => {
                let message = format!(
                    "node {cluster}/{node} has left, and is not removed yet: {}",
                    failure.body.message
                );
                return Err(Failure::new(ExitClass::Timeout, codes::TIMEOUT, message)
                    .about(format!("node/{cluster}/{node}"))
                    .next(format!("codeco node forget {cluster}/{node}")));
            }
            told => return told,
        }
    }
}

fn is_passing(failure: &Failure) -> bool {
    [codes::NODE_NOT_FORGOTTEN.word(), codes::NODE_UNREACHABLE.word()].contains(&failure.body.code.as_str())
}
