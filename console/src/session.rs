//! What a command works with: where contexts are, and where to write.

use std::io::{Read, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use codeco_protocol::api::codes;
use serde::Serialize;

use crate::client::Client;
use crate::contexts::Contexts;
use crate::failure::{ExitClass, Failure};

/// The surroundings of one call of the command.
pub(crate) struct Session<'a> {
    /// File of contexts.
    pub(crate) contexts: PathBuf,
    /// Context to use instead of the current one.
    pub(crate) context: Option<String>,
    /// Standard input.
    pub(crate) stdin: &'a mut dyn Read,
    /// Standard output.
    pub(crate) stdout: &'a mut dyn Write,
    /// Standard error.
    pub(crate) stderr: &'a mut dyn Write,
    /// Whether colours may be used.
    pub(crate) paint: bool,
}

impl Session<'_> {
    /// A client of the context in use.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let contexts = Contexts::load(&self.contexts)?;
        Client::new(contexts.pick(self.context.as_deref(), &self.contexts)?)
    }

    /// Believes the hub of the context in use from now on where its certificate is of one of these authorities (PEM).
    pub(crate) fn trust(&self, authorities: &str) -> Result<(), Failure> {
        if authorities.is_empty() {
            return Ok(());
        }
        let mut contexts = Contexts::load(&self.contexts)?;
        let name = contexts.pick(self.context.as_deref(), &self.contexts)?.name.clone();
        for context in contexts.contexts.iter_mut().filter(|context| context.name == name) {
            authorities.clone_into(&mut context.ca);
        }
        contexts.save(&self.contexts)
    }

    /// Tells what the answer does not show.
    pub(crate) fn warn(&mut self, warnings: &[String]) -> Result<(), Failure> {
        for warning in warnings {
            writeln!(self.stderr, "warning: {}", crate::render::clean(warning))?;
        }
        Ok(())
    }

    /// Writes `value` for programs.
    pub(crate) fn write_value(&mut self, value: &impl Serialize, yaml: bool) -> Result<(), Failure> {
        let text = if yaml {
            serde_yaml_ng::to_string(value).map_err(|e| e.to_string())
        } else {
            serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|e| e.to_string())
        };
        let text = text.map_err(|e| Failure::new(ExitClass::Error, codes::OUTPUT, e))?;
        Ok(self.stdout.write_all(text.as_bytes())?)
    }
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Output {
    /// A table for people.
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    /// JSON, as the API answers it.
    Json,
    /// The same as YAML.
    Yaml,
}

impl Output {
    /// For programs: `Some(true)` is YAML, `Some(false)` is JSON.
    pub(crate) fn yaml(self) -> Option<bool> {
        match self {
            Self::Table | Self::Wide => None,
            Self::Json => Some(false),
            Self::Yaml => Some(true),
        }
    }
}
