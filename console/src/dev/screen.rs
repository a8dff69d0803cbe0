//! The live table of `codeco dev`: redrawn in place on a terminal, printed when it changes elsewhere.

use std::fmt::Write as _;

use codeco_protocol::api::{NodeView, ReplicaView};

use crate::failure::Failure;
use crate::session::Session;

/// See the module.
pub(super) struct Screen {
    live: bool,
    lines: usize,
    last: String,
}

impl Screen {
    pub(super) fn new(live: bool) -> Self {
        Self { live, lines: 0, last: String::new() }
    }

    /// Prints a line above the table.
    pub(super) fn say(&mut self, session: &mut Session<'_>, line: &str) -> Result<(), Failure> {
        self.clear(session)?;
        writeln!(session.stdout, "{line}")?;
        session.stdout.flush()?;
        Ok(())
    }

    /// Shows the fleet as it is now.
    pub(super) fn show(
        &mut self,
        session: &mut Session<'_>,
        seen: Option<&(Vec<NodeView>, Vec<ReplicaView>)>,
    ) -> Result<(), Failure> {
        let text = match seen {
            Some((nodes, replicas)) => table(nodes, replicas),
            None => "the hub does not answer; clusters keep deciding without it\n".to_owned(),
        };
        if !self.live && text == self.last {
            return Ok(());
        }
        self.clear(session)?;
        session.stdout.write_all(text.as_bytes())?;
        session.stdout.flush()?;
        self.lines = text.lines().count();
        self.last = text;
        Ok(())
    }

    fn clear(&mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        if self.live && self.lines > 0 {
            write!(session.stdout, "\x1b[{}A\x1b[J", self.lines)?;
        }
        self.lines = 0;
        Ok(())
    }
}

/// One line a node, with the replicas on it.
fn table(nodes: &[NodeView], replicas: &[ReplicaView]) -> String {
    let mut rows = vec![["NODE", "STATUS", "CPU FREE", "REPLICAS"].map(str::to_owned)];
    for node in nodes {
        let here = replicas.iter().filter(|replica| {
            replica.cluster.as_ref() == Some(&node.cluster) && replica.node.as_ref() == Some(&node.name)
        });
        let names: Vec<String> = here
            .map(|replica| {
                let mark = if replica.ready {
                    String::new()
                } else {
                    format!(" ({:?})", replica.phase).to_lowercase()
                };
                format!("{}-{}{mark}", replica.service, replica.index)
            })
            .collect();
        let lead = if node.lead { ", lead" } else { "" };
        rows.push([
            format!("{}/{}", node.cluster, node.name),
            format!("{:?}{lead}", node.status),
            format!("{} of {}", node.free.cpu, node.capacity.cpu),
            if names.is_empty() { "-".into() } else { names.join(", ") },
        ]);
    }
    let nowhere: Vec<String> = replicas
        .iter()
        .filter(|replica| replica.node.is_none())
        .map(|replica| format!("{}-{}: {}", replica.service, replica.index, replica.message))
        .collect();
    let mut text = String::new();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    for [node, status, cpu, names] in &rows {
        let (a, b, c) = (widths[0], widths[1], widths[2]);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{node:a$}  {status:b$}  {cpu:c$}  {names}");
    }
    for line in nowhere {
        let _ = writeln!(text, "not placed: {line}");
    }
    text
}
