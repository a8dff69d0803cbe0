//! `codeco context`.

use clap::Subcommand;
use serde::Serialize;

use crate::contexts::{Context, Contexts};
use crate::failure::Failure;
use crate::render::{Cell, Column, Fields, Table, Width};
use crate::session::{Output, Session};

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
