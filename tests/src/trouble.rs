//! What can go wrong around a fleet under test.

use std::fmt;
use std::io;
use std::path::PathBuf;

use codeco_actors::journal::JournalError;
use codeco_console::local::LocalError;

/// Why a test cannot go on.
#[derive(thiserror::Error)]
pub enum Trouble {
    /// The fleet does not run.
    #[error(transparent)]
    Fleet(#[from] LocalError),
    /// A file or folder.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A command said no.
    #[error("codeco {command} failed: {said}")]
    Command {
        /// Its arguments.
        command: String,
        /// What it wrote.
        said: String,
    },
    /// A tool of the system, such as `ip`, said no.
    #[error("{command} failed: {said}")]
    Tool {
        /// What was run.
        command: String,
        /// What it wrote.
        said: String,
    },
    /// Something did not come about.
    #[error("waited {seconds} s in vain until {what}; at last: {last}\n{logs}")]
    InVain {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// What was there instead.
        last: String,
        /// What the members wrote.
        logs: String,
    },
    /// The accounts do not balance.
    #[error("the accounts do not balance:\n  {}", .0.join("\n  "))]
    Accounts(Vec<String>),
}

impl fmt::Debug for Trouble {
    /// As people read it: a failed test shows this.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Trouble {
    /// For `map_err`.
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::File { path: path.to_owned(), source }
    }

    /// `Ok` if nothing was found.
    ///
    /// # Errors
    /// [`Trouble::Accounts`] otherwise.
    pub fn unless_empty(found: Vec<String>) -> Result<(), Self> {
        if found.is_empty() { Ok(()) } else { Err(Self::Accounts(found)) }
    }
}
