//! The hub as a program of its own, for images that hold nothing else.

use std::process::ExitCode;

use clap::Parser;
use codeco_actors::process::{DaemonOptions, run_daemon};
use codeco_hub::process::{HubOptions, run};

/// Runs a CODECO hub.
#[derive(Debug, Parser)]
#[command(name = "codeco-hub", version)]
struct Program {
    #[command(flatten)]
    options: HubOptions,
    #[command(flatten)]
    daemon: DaemonOptions,
}

fn main() -> ExitCode {
    let Program { options, daemon } = Program::parse();
    let started = options.layered().and_then(|layered| Ok((layered.resolve()?, layered)));
    let result = match started {
        Ok((_, layered)) if options.print_config => match toml::to_string_pretty(&layered) {
            Ok(text) => {
                print!("{text}");
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        },
        Ok((config, _)) => {
            run_daemon(&daemon, |stop| async move { run(config, stop).await.map_err(|e| e.to_string()) })
        }
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("codeco-hub: {error}");
            ExitCode::FAILURE
        }
    }
}
