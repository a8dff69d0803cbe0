//! The `codeco` command, as a library: the program itself is a few lines, and so are programs that contain it, such as
//! the benchmarks and the end-to-end tests.
#![cfg_attr(test, allow(clippy::unwrap_used))]
// A `Failure` carries all that a person needs; it is made at most once a call.
#![allow(clippy::result_large_err)]

mod client;
mod commands;
mod contexts;
mod daemons;
mod dev;
mod failure;
#[doc(hidden)]
pub mod hostile;
pub mod local;
mod object;
mod render;
mod session;
#[cfg(test)]
mod tests;
mod top;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use failure::{ExitClass, Failure};
use session::Session;

/// Places applications on many edge clusters, and explains where and why.
///
/// Exit codes: 0 done, 1 error, 2 called wrongly, 3 not found, 4 refused, 5 hub unreachable, 6 invalid manifest,
/// 7 timeout.
#[derive(Debug, Parser)]
#[command(name = "codeco", version, arg_required_else_help = true)]
struct Cli {
    /// Context to use instead of the current one.
    #[arg(long, global = true, env = "CODECO_CONTEXT", value_name = "NAME")]
    context: Option<String>,
    /// File of contexts [default: ~/.config/codeco/contexts.yaml].
    #[arg(long, global = true, env = "CODECO_CONFIG", value_name = "FILE")]
    contexts: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole fleet on this machine: a hub and agents as real processes.
    Dev(dev::DevCommand),
    /// Run a hub.
    Hub(Box<daemons::HubCommand>),
    /// Run a node agent.
    Agent(Box<daemons::AgentCommand>),
    /// Watch a fleet: clusters, actors, applications, decisions. `?` lists the keys.
    Top(top::TopArgs),
    #[command(flatten)]
    Ask(commands::Command),
    /// Print a script that completes commands in a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
}

/// Words that come before those of `codeco` when this program calls itself.
static PREFIX: OnceLock<Vec<OsString>> = OnceLock::new();

/// How this program calls itself as `codeco`.
pub(crate) fn own_command() -> io::Result<Vec<OsString>> {
    let mut command = vec![std::env::current_exe()?.into_os_string()];
    command.extend(PREFIX.get().into_iter().flatten().cloned());
    Ok(command)
}

/// The whole program: reads the process's arguments after the first `prefix.len()` and does what they say.
#[must_use]
pub fn main_after(prefix: &[&str]) -> ExitCode {
    let set = PREFIX.set(prefix.iter().map(OsString::from).collect());
    debug_assert!(set.is_ok(), "a process is one program");
    let arguments: Vec<OsString> = std::env::args_os().skip(1 + prefix.len()).collect();
    if let Some(code) = daemons::helper(&arguments) {
        return code;
    }
    // None is locked: threads of a command may write too.
    let (mut stdin, mut stdout, mut stderr) = (io::stdin(), io::stdout(), io::stderr());
    let paint = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let session = Session {
        contexts: contexts::default_path(),
        context: None,
        stdin: &mut stdin,
        stdout: &mut stdout,
        stderr: &mut stderr,
        paint,
    };
    let arguments = std::iter::once(OsString::from("codeco")).chain(arguments);
    ExitCode::from(run(arguments, session).code())
}

/// Understands `arguments`, does what they say, and tells why not.
fn run(arguments: impl IntoIterator<Item = OsString>, mut session: Session<'_>) -> ExitClass {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return told(&error, &mut session),
    };
    session.context = cli.context.filter(|name| !name.is_empty());
    if let Some(path) = cli.contexts.filter(|path| !path.as_os_str().is_empty()) {
        session.contexts = path;
    }
    let result = match cli.command {
        Command::Dev(command) => command.run(&mut session),
        Command::Hub(command) => command.run(&mut session),
        Command::Agent(command) => command.run(&mut session),
        Command::Top(command) => command.run(&mut session),
        Command::Ask(command) => command.run(&mut session),
        Command::Completion { shell } => completion(shell, &mut session),
    };
    let Err(failure) = result else { return ExitClass::Done };
    if !failure.class.is_answer() {
        // With standard error gone too, the exit code is all that is left to say it.
        let _ = session.stderr.write_all(failure.to_text().as_bytes());
    }
    failure.class
}

/// Help and version are answers; anything else was called wrongly.
fn told(error: &clap::Error, session: &mut Session<'_>) -> ExitClass {
    let text = if session.paint { error.render().ansi().to_string() } else { error.render().to_string() };
    if error.use_stderr() {
        let _ = session.stderr.write_all(text.as_bytes());
        return ExitClass::Usage;
    }
    let _ = session.stdout.write_all(text.as_bytes());
    ExitClass::Done
}

fn completion(shell: Shell, session: &mut Session<'_>) -> Result<(), Failure> {
    // clap panics when it cannot write, as it does into a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "codeco", &mut script);
    Ok(session.stdout.write_all(&script)?)
}
