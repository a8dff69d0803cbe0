//! The node agent as a program of its own, for images that hold nothing else. It is also its own guard and shim.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use codeco_actors::process::{DaemonOptions, run_daemon};
use codeco_node_agent::agent::{AgentOptions, Helpers, run};
use codeco_node_agent::guard::{self, GuardOptions};

/// Runs a CODECO node agent.
#[derive(Debug, Parser)]
#[command(name = "codeco-agent", version)]
struct Program {
    #[command(flatten)]
    options: AgentOptions,
    #[command(flatten)]
    daemon: DaemonOptions,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // Guard and shim take raw arguments, and must start before any thread does.
    match arguments.split_first() {
        Some((word, rest)) if word == "shim" => return guard::shim(rest.to_vec()),
        Some((word, rest)) if word == "guard" => {
            return match GuardOptions::parse(rest.to_vec()) {
                Ok(options) => guard::run(options),
                Err(error) => fail(&error.to_string()),
            };
        }
        _ => {}
    }
    let Program { options, daemon } = Program::parse();
    let result = start(&options, &daemon);
    result.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn start(options: &AgentOptions, daemon: &DaemonOptions) -> Result<(), String> {
    let layered = options.layered().map_err(|e| e.to_string())?;
    let config = layered.resolve().map_err(|e| e.to_string())?;
    if options.print_config {
        print!("{}", toml::to_string_pretty(&layered).map_err(|e| e.to_string())?);
        return Ok(());
    }
    let own = std::env::current_exe().map_err(|e| format!("where this program is cannot be told: {e}"))?;
    let with = |word: &str| vec![own.clone().into_os_string(), word.into()];
    let helpers = Helpers { guard: with("guard"), shim: with("shim") };
    run_daemon(daemon, |stop| async move { run(config, helpers, stop).await.map_err(|e| e.to_string()) })
}

fn fail(error: &str) -> ExitCode {
    eprintln!("codeco-agent: {error}");
    ExitCode::FAILURE
}
