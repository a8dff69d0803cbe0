//! The codeco command.

use std::process::ExitCode;

fn main() -> ExitCode {
    codeco_console::main_after(&[])
}
