//! The shim: the first moments of every workload process.
//!
//! It ties its life to the guard's, which only a process itself can do, and then becomes the workload's program.
//! Its standard input is a pipe to the guard that closes by itself when the program has taken its place; until
//! then it carries the reason why that cannot be done.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Longest report of the shim.
pub(super) const REPORT_LEN_MAX: usize = 1_024;
/// As shells do it: the program was not found, or could not be run.
const EXIT_NOT_RUN: u8 = 127;

/// Becomes `PROGRAM`, given the arguments `GUARD-PID -- PROGRAM [ARG]…`; returns only if that fails.
pub fn shim(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let report = std::io::stdin().as_fd().try_clone_to_owned().map(File::from);
    let message = match become_program(args) {
        Ok(never) => match never {},
        Err(message) => message,
    };
    let _ = writeln!(std::io::stderr(), "codeco: {message}");
    if let Ok(mut report) = report {
        let end = message.floor_char_boundary(REPORT_LEN_MAX);
        // The guard has gone: then nobody is left to tell, and the process ends anyway.
        let _ = report.write_all(&message.as_bytes()[..end]);
    }
    ExitCode::from(EXIT_NOT_RUN)
}

fn become_program(args: impl IntoIterator<Item = OsString>) -> Result<std::convert::Infallible, String> {
    let mut args = args.into_iter();
    let guard = args.next().and_then(|text| Pid::from_raw(text.to_str()?.parse().ok()?));
    let guard = guard.ok_or("the shim was started without the guard's pid")?;
    if args.next().as_deref() != Some("--".as_ref()) {
        return Err("the shim was started without «--» before the program".into());
    }
    let program = args.next().ok_or("the shim was started without a program")?;
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("the process cannot be tied to the guard's life: {error}"))?;
    // The guard may have died before the line above; then the kernel will never send that signal.
    if getppid() != Some(guard) {
        return Err("the guard died while the process was being started".into());
    }
    let error = Command::new(&program).args(args).stdin(Stdio::null()).exec();
    Err(match error.kind() {
        std::io::ErrorKind::NotFound => format!(
            "command {} was not found on this node (or its interpreter, or the working directory); \
             check `command` and PATH",
            program.display()
        ),
        _ => format!("command {} cannot be run: {error}", program.display()),
    })
}
