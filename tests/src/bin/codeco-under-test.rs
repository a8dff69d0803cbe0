//! The `codeco` command as the end-to-end tests run it: the same program, built with them.

use std::process::ExitCode;

fn main() -> ExitCode {
    codeco_console::main_after(&[])
}
