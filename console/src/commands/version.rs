//! `codeco version`.

use clap::Args;
use codeco_hub::api::VersionView;
use serde::Serialize;

use crate::failure::Failure;
use crate::session::{Output, Session};

/// Arguments of `version`.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Only of this command: no hub is asked.
    #[arg(long)]
    client: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Versions {
    client: VersionView,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<VersionView>,
}

impl VersionArgs {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let client = VersionView { version: env!("CARGO_PKG_VERSION").to_owned(), api: "v1".to_owned() };
        if let Some(yaml) = self.output.yaml() {
            let server = if self.client { None } else { Some(session.client()?.version()?) };
            return session.write_value(&Versions { client, server }, yaml);
        }
        writeln!(session.stdout, "client: {} (api {})", client.version, client.api)?;
        if !self.client {
            let server = session.client()?.version()?;
            writeln!(session.stdout, "server: {} (api {})", server.version, server.api)?;
        }
        Ok(())
    }
}
