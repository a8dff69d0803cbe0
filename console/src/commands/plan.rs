//! `codeco plan`.

use std::path::PathBuf;

use clap::Args;
use codeco_protocol::api::{PlanView, PlannedAction, PlannedReplica, codes};

use super::apply::read_all;
use crate::failure::{ExitClass, Failure};
use crate::render::clean;
use crate::session::{Output, Session};

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// File, folder with .yaml, .yml and .json files, or - for standard input. May be given several times.
    #[arg(short, long = "filename", required = true, value_name = "FILE|-|DIR")]
    files: Vec<PathBuf>,
    /// How to print; `wide` adds the parts of scores.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Exit with 2 if applying would change something, with 0 if not.
    #[arg(long)]
    detailed_exitcode: bool,
}

impl PlanArgs {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let files = read_all(&self.files, session)?;
        let client = session.client()?;
        let mut plans = Vec::new();
        for file in files {
            plans.extend(client.plan(&file.name, &file.text)?);
        }
        match self.output.yaml() {
            Some(yaml) => session.write_value(&plans, yaml)?,
            None => {
                for plan in &plans {
                    print(session, plan, self.output == Output::Wide)?;
                }
            }
        }
        if self.detailed_exitcode && plans.iter().any(|plan| plan.changes) {
            return Err(Failure::new(ExitClass::Changes, codes::CLOSED, "applying would change something"));
        }
        Ok(())
    }
}

fn print(session: &mut Session<'_>, plan: &PlanView, wide: bool) -> Result<(), Failure> {
    let (app, generation) = (&plan.app, plan.generation);
    let what = if plan.changes { "would be made" } else { "is there already" };
    writeln!(session.stdout, "app/{app}: generation {generation} {what}")?;
    let mut counts = [0_u32; 5];
    for replica in &plan.replicas {
        let (at, sign, word) = sign(replica.action);
        counts[at] += 1;
        let place = place(replica);
        let reason =
            if replica.reason.is_empty() { String::new() } else { format!("  ({})", replica.reason) };
        let line = format!("{sign} {}-{} {word} {place}{reason}", replica.service, replica.index);
        writeln!(session.stdout, "{}", clean(line.trim_end()))?;
        if wide {
            parts(session, replica)?;
        }
    }
    let [create, change, remove, keep, wait] = counts;
    writeln!(
        session.stdout,
        "{create} to create, {change} to change, {remove} to remove, {keep} unchanged, {wait} that no node can take now"
    )?;
    session.warn(&plan.warnings)
}

fn sign(action: PlannedAction) -> (usize, char, &'static str) {
    match action {
        PlannedAction::Create => (0, '+', "create on"),
        PlannedAction::Change => (1, '~', "change"),
        PlannedAction::Remove => (2, '-', "remove from"),
        PlannedAction::Keep => (3, ' ', "keep on"),
        PlannedAction::Wait => (4, '!', "wait"),
    }
}

fn place(replica: &PlannedReplica) -> String {
    let text = |cluster: Option<String>, node: Option<String>| match (cluster, node) {
        (Some(cluster), Some(node)) => format!("{cluster}/{node}"),
        (Some(cluster), None) => cluster,
        _ => String::new(),
    };
    let name = |n: &codeco_protocol::ids::NodeName| n.to_string();
    let to = text(replica.cluster.as_ref().map(ToString::to_string), replica.node.as_ref().map(name));
    let from =
        text(replica.from_cluster.as_ref().map(ToString::to_string), replica.from_node.as_ref().map(name));
    match replica.action {
        PlannedAction::Change => format!("{from} -> {to}"),
        PlannedAction::Remove => from,
        _ => to,
    }
}

fn parts(session: &mut Session<'_>, replica: &PlannedReplica) -> Result<(), Failure> {
    for candidate in &replica.candidates {
        let told = match (&candidate.filtered_by, candidate.total) {
            (Some(why), _) => why.clone(),
            (None, total) => {
                let parts = candidate.parts.iter().map(|p| format!("{} {:.3}", p.name, p.contribution));
                let parts: Vec<String> = parts.collect();
                format!("{:.3} = {}", total.unwrap_or_default(), parts.join(" + "))
            }
        };
        writeln!(session.stdout, "    {}", clean(&format!("{}: {told}", candidate.name)))?;
    }
    Ok(())
}
