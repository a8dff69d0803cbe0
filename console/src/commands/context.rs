//! `codeco context`.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use codeco_hub::process::AdminAccess;
use codeco_protocol::api::codes;
use serde::Serialize;

use crate::client::Client;
use crate::contexts::{Context, Contexts, save_and_use};
use crate::failure::{ExitClass, Failure};
use crate::render::{Cell, Column, Fields, Table, Width};
use crate::session::{Output, Session};

/// Longest file read, in bytes.
const TEXT_LEN_MAX: u64 = 64 << 10;

/// Subcommands of `context`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// All contexts.
    List {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Make a context the one in use.
    Use {
        /// Its name.
        name: String,
    },
    /// Take a hub's `admin.json`, or the like, as a context, and use it.
    Import {
        /// JSON file with server, ca and token; the hub writes one, admin.json, into its state at its first start.
        file: PathBuf,
        /// Name of the context.
        #[arg(long, default_value = "hub")]
        name: String,
    },
    /// Add a context for the same hub as the one in use, with another token, and use it.
    Add {
        /// Its name.
        name: String,
        /// File with the token, such as `codeco token create --api` prints; - is standard input.
        #[arg(long, value_name = "FILE", default_value = "-")]
        token: PathBuf,
    },
    /// The context in use.
    Show {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// A context without its token: that is never shown.
#[derive(Serialize)]
struct Shown {
    name: String,
    server: String,
    role: String,
    current: bool,
}

impl Shown {
    fn new(context: &Context, current: bool) -> Self {
        let (name, server) = (context.name.clone(), context.server.clone());
        Self { name, server, role: context.role().to_owned(), current }
    }
}

const COLUMNS: &[Column] =
    &[Column::new("CURRENT"), Column::new("NAME"), Column::new("SERVER"), Column::new("ROLE")];

impl ContextCommand {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let path = session.contexts.clone();
        let mut contexts = Contexts::load(&path)?;
        let current = session.context.clone().or(contexts.current.clone());
        match self {
            Self::List { output } => {
                let shown =
                    contexts.contexts.iter().map(|c| Shown::new(c, Some(&c.name) == current.as_ref()));
                list(&shown.collect::<Vec<_>>(), output, session)
            }
            Self::Use { name } => {
                contexts.pick(Some(&name), &path)?;
                contexts.current = Some(name.clone());
                contexts.save(&path)?;
                Ok(writeln!(session.stdout, "context {name} is in use")?)
            }
            Self::Import { file, name } => {
                let text = read(&file, session)?;
                let access: AdminAccess = serde_json::from_str(&text).map_err(|e| {
                    let message = format!("{}: {e}", file.display());
                    Failure::new(ExitClass::Error, codes::CONTEXTS, message).next(
                        "expected is a JSON object of server, ca and token, as the hub writes in admin.json",
                    )
                })?;
                let AdminAccess { server, ca, token } = access;
                add(Context { name, server, ca, token, members: Vec::new() }, session)
            }
            Self::Add { name, token } => {
                let known = contexts.pick(session.context.as_deref(), &path)?;
                let (server, ca, members) = (known.server.clone(), known.ca.clone(), known.members.clone());
                let token = read(&token, session)?.trim().to_owned();
                add(Context { name, server, ca, token, members }, session)
            }
            Self::Show { output } => {
                let shown = Shown::new(contexts.pick(session.context.as_deref(), &path)?, true);
                if let Some(yaml) = output.yaml() {
                    return session.write_value(&shown, yaml);
                }
                let fields = Fields::default().with("Name", shown.name).with("Server", shown.server);
                let fields = fields.with("Role", shown.role).with("File", path.display());
                Ok(session.stdout.write_all(fields.render().as_bytes())?)
            }
        }
    }
}

/// Keeps a context that can be used, and uses it.
fn add(context: Context, session: &mut Session<'_>) -> Result<(), Failure> {
    Client::new(&context)?;
    let name = context.name.clone();
    save_and_use(&session.contexts, context)?;
    Ok(writeln!(session.stdout, "context {name} is in use")?)
}

fn read(file: &Path, session: &mut Session<'_>) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        session.stdin.take(TEXT_LEN_MAX).read_to_string(&mut text)
    } else {
        File::open(file).and_then(|opened| opened.take(TEXT_LEN_MAX).read_to_string(&mut text))
    };
    match read {
        Ok(_) => Ok(text),
        Err(e) => Err(Failure::new(
            ExitClass::Error,
            codes::CONTEXTS,
            format!("cannot read {}: {e}", file.display()),
        )),
    }
}

fn list(shown: &[Shown], output: Output, session: &mut Session<'_>) -> Result<(), Failure> {
    if let Some(yaml) = output.yaml() {
        return session.write_value(&shown, yaml);
    }
    if shown.is_empty() {
        return Ok(writeln!(session.stderr, "No contexts found: `codeco dev` makes one.")?);
    }
    let row = |c: &Shown| {
        let current = if c.current { "*" } else { " " };
        vec![Cell::new(current), Cell::new(&c.name), Cell::new(&c.server), Cell::new(&c.role)]
    };
    let table = Table { columns: COLUMNS, rows: shown.iter().map(row).collect() };
    Ok(session.stdout.write_all(table.render(Width::default()).as_bytes())?)
}
