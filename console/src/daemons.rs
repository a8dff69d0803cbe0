//! `codeco hub` and `codeco agent`: the long-running programs, and the small helpers of the process runtime.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use codeco_actors::process::{DaemonOptions, run_daemon};
use codeco_hub::process::HubOptions;
use codeco_node_agent::agent::{AgentOptions, Helpers};
use codeco_node_agent::guard::{self, GuardOptions};
use codeco_protocol::api::{ErrorCode, codes};

use crate::failure::{ExitClass, Failure};
use crate::session::Session;

/// Options of `codeco hub`.
#[derive(Debug, Args)]
pub(crate) struct HubCommand {
    #[command(flatten)]
    options: HubOptions,
    #[command(flatten)]
    daemon: DaemonOptions,
}

/// Options of `codeco agent`.
#[derive(Debug, Args)]
pub(crate) struct AgentCommand {
    #[command(flatten)]
    options: AgentOptions,
    #[command(flatten)]
    daemon: DaemonOptions,
}

fn failed(code: ErrorCode, message: String, next: &'static str) -> Failure {
    Failure::new(ExitClass::Error, code, message).next(next)
}

impl HubCommand {
    pub(crate) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let next = "correct the option named and start again; `codeco hub --help` lists them";
        let layered =
            self.options.layered().map_err(|e| failed(codes::INVALID_CONFIG, e.to_string(), next))?;
        let config = layered.resolve().map_err(|e| failed(codes::INVALID_CONFIG, e.to_string(), next))?;
        if self.options.print_config {
            return print_config(&layered, session);
        }
        run_daemon(&self.daemon, |stop| async move {
            codeco_hub::process::run(config, stop).await.map_err(|e| e.to_string())
        })
        .map_err(|e| failed(codes::HUB_FAILED, e, "nothing runs; correct the cause and start the hub again"))
    }
}

impl AgentCommand {
    pub(crate) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let next = "correct the option named and start again; `codeco agent --help` lists them";
        let layered =
            self.options.layered().map_err(|e| failed(codes::INVALID_CONFIG, e.to_string(), next))?;
        let config = layered.resolve().map_err(|e| failed(codes::INVALID_CONFIG, e.to_string(), next))?;
        if self.options.print_config {
            return print_config(&layered, session);
        }
        let helpers =
            helpers().map_err(|e| failed(codes::AGENT_FAILED, e, "start codeco by its full path"))?;
        run_daemon(&self.daemon, |stop| async move {
            codeco_node_agent::agent::run(config, helpers, stop).await.map_err(|e| e.to_string())
        })
        .map_err(|e| {
            failed(codes::AGENT_FAILED, e, "nothing new runs; correct the cause and start the agent again")
        })
    }
}

fn print_config<T: serde::Serialize>(options: &T, session: &mut Session<'_>) -> Result<(), Failure> {
    let text = toml::to_string_pretty(options)
        .map_err(|e| failed(codes::INVALID_CONFIG, e.to_string(), "this is a bug; please report it"))?;
    Ok(session.stdout.write_all(text.as_bytes())?)
}

/// This very program, called as guard and as shim.
fn helpers() -> Result<Helpers, String> {
    let mut own = crate::own_command().map_err(|e| format!("where this program is cannot be told: {e}"))?;
    let with = |word: &str| {
        let mut command = own.clone();
        command.push(word.into());
        command
    };
    let (guard, shim) = (with("guard"), with("shim"));
    own.clear();
    Ok(Helpers { guard, shim })
}

/// Runs `codeco guard …` and `codeco shim …`, which take raw arguments and must start before any thread does.
/// `None` if the arguments ask for something else.
pub(crate) fn helper(arguments: &[OsString]) -> Option<ExitCode> {
    let (word, rest) = arguments.split_first()?;
    match word.to_str()? {
        "shim" => Some(guard::shim(rest.to_vec())),
        "guard" => Some(match GuardOptions::parse(rest.to_vec()) {
            Ok(options) => guard::run(options),
            Err(error) => {
                eprintln!("codeco guard: {error}");
                ExitCode::from(2)
            }
        }),
        _ => None,
    }
}
