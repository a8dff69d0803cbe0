//! `codeco delete`.

use std::path::PathBuf;

use clap::Args;
use codeco_protocol::ids::{AppName, Namespace};

use super::NamespaceArg;
use super::apply::read_all;
use crate::failure::Failure;
use crate::object::{Kind, checked, name_of};
use crate::session::Session;

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// app/NAME or app NAME.
    #[arg(num_args = 0..=2, required_unless_present = "files", conflicts_with = "files", value_name = "app/NAME")]
    object: Vec<String>,
    /// Delete the applications of these files instead.
    #[arg(short, long = "filename", value_name = "FILE|-|DIR")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    namespace: NamespaceArg,
}

impl DeleteArgs {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let mut all: Vec<(Namespace, AppName)> = Vec::new();
        if self.files.is_empty() {
            let name = name_of(&self.object, Kind::App)?;
            all.push((checked(&self.namespace.namespace)?, checked(&name)?));
        }
        for app in read_all(&self.files, session)?.into_iter().flat_map(|file| file.apps) {
            all.push((checked(&app.metadata.namespace)?, checked(&app.metadata.name)?));
        }
        let client = session.client()?;
        for (namespace, name) in all {
            client.delete(&namespace, &name)?;
            writeln!(session.stdout, "app/{name} deleting")?;
        }
        Ok(())
    }
}
