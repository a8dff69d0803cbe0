//! The guard and its shim as a program of their own; `codeco` holds both as hidden subcommands.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use codeco_node_agent::guard::{self, GuardOptions};

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|first| first == "shim") {
        return guard::shim(args.split_off(1));
    }
    match GuardOptions::parse(args) {
        Ok(options) => guard::run(options),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "codeco-guard: {error}");
            ExitCode::from(2)
        }
    }
}
