//! Contexts: which hub the command talks to, whom it trusts there, and with which token.
//!
//! One file, `$CODECO_CONFIG` or `~/.config/codeco/contexts.yaml`. It holds tokens, so only its owner may read it, and
//! it is replaced as a whole or not at all.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use codeco_protocol::api::codes;
use codeco_protocol::identity::{FileError, read_private, write_private};
use serde::{Deserialize, Serialize};

use crate::failure::{ExitClass, Failure};

/// Largest file read, in bytes: hundreds of contexts.
const FILE_LEN_MAX: u64 = 1 << 20;

/// A hub to talk to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Name.
    pub(crate) name: String,
    /// Where the hub listens, `https://host:port`.
    pub(crate) server: String,
    /// Certificate of the fleet's authority, PEM. Nobody else is believed.
    pub(crate) ca: String,
    /// API token.
    pub(crate) token: String,
    /// Where other members of the fleet listen, asked in turn when the hub cannot be reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) members: Vec<String>,
}

impl Context {
    /// Role the token's text names: for people, the hub decides.
    pub(crate) fn role(&self) -> &str {
        self.token.split('.').nth(1).unwrap_or("unknown")
    }
}

/// All contexts of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// All of them.
    #[serde(default)]
    pub(crate) contexts: Vec<Context>,
}

/// The file to use when nobody says which.
pub(crate) fn default_path() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    config.unwrap_or_else(|| PathBuf::from(".config")).join("codeco").join("contexts.yaml")
}

/// Adds `context`, in place of one of the same name, and makes it the one in use. Atomic and durable.
///
/// # Errors
/// The file as it is cannot be read, or not be replaced; it is as before then.
pub(crate) fn save_and_use(path: &Path, context: Context) -> Result<(), Failure> {
    let mut contexts = Contexts::load(path)?;
    contexts.current = Some(context.name.clone());
    match contexts.contexts.iter_mut().find(|known| known.name == context.name) {
        Some(known) => *known = context,
        None => contexts.contexts.push(context),
    }
    contexts.save(path)
}

impl Contexts {
    /// Reads the file; none is no contexts.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let content = match read_private(path, FILE_LEN_MAX) {
            Ok(content) => content,
            Err(error) if error.is_not_found() => return Ok(Self::default()),
            Err(error) => return Err(of_file(&error)),
        };
        Self::parse(&content).map_err(|error| {
            let message = format!("{} is not a file of contexts: {error}", path.display());
            Failure::new(ExitClass::Error, codes::CONTEXTS, message)
                .next("correct it, or move it away and start `codeco dev`, which writes a new one")
        })
    }

    pub(crate) fn parse(content: &[u8]) -> Result<Self, serde_yaml_ng::Error> {
        serde_yaml_ng::from_slice(content)
    }

    /// Replaces the file.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_yaml_ng::to_string(self)
            .map_err(|error| Failure::new(ExitClass::Error, codes::CONTEXTS, error.to_string()))?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
                let message = format!("cannot make the folder {}: {error}", folder.display());
                Failure::new(ExitClass::Error, codes::CONTEXTS, message)
            })?;
        }
        write_private(path, text.as_bytes()).map_err(|error| of_file(&error))
    }

    /// The context called `name`, or the one in use.
    pub(crate) fn pick(&self, name: Option<&str>, path: &Path) -> Result<&Context, Failure> {
        let wanted = name.or(self.current.as_deref()).ok_or_else(|| {
            let message = format!("no context is in use: {} names none", path.display());
            Failure::new(ExitClass::Usage, codes::NO_CONTEXT, message)
                .next("start a fleet with `codeco dev`, or pick a context with `codeco context use NAME`")
        })?;
        self.contexts.iter().find(|context| context.name == wanted).ok_or_else(|| {
            let names: Vec<&str> = self.contexts.iter().map(|context| context.name.as_str()).collect();
            let known = if names.is_empty() { "there are none".into() } else { names.join(", ") };
            Failure::not_found(format!("context/{wanted}"))
                .next(format!("contexts in {}: {known}", path.display()))
        })
    }
}

fn of_file(error: &FileError) -> Failure {
    Failure::new(ExitClass::Error, codes::CONTEXTS, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn context(name: &str, token: &str) -> Context {
        let (server, ca) = ("https://127.0.0.1:1".to_owned(), "PEM".to_owned());
        Context { name: name.to_owned(), server, ca, token: token.to_owned(), members: Vec::new() }
    }

    #[test]
    fn context_saved_twice_is_kept_once_beside_others_in_a_private_file_of_a_private_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("contexts.yaml");
        save_and_use(&path, context("dev", "codeco-api.admin.1")).unwrap();
        save_and_use(&path, context("prod", "codeco-api.viewer.2")).unwrap();
        save_and_use(&path, context("dev", "codeco-api.operator.3")).unwrap();
        let contexts = Contexts::load(&path).unwrap();
        assert_eq!(contexts.current.as_deref(), Some("dev"));
        assert_eq!(contexts.contexts.len(), 2);
        assert_eq!(contexts.pick(None, &path).unwrap().role(), "operator");
        assert_eq!(contexts.pick(Some("prod"), &path).unwrap().role(), "viewer");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn context_file_that_others_may_read_is_refused_with_the_command_that_helps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contexts.yaml");
        save_and_use(&path, context("dev", "t")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let failure = Contexts::load(&path).unwrap_err();
        assert!(failure.body.message.contains("chmod 600"), "{failure:?}");
    }

    #[test]
    fn context_unknown_or_none_says_which_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contexts.yaml");
        let none = Contexts::load(&path).unwrap();
        assert_eq!(none.pick(None, &path).unwrap_err().class, ExitClass::Usage);
        save_and_use(&path, context("dev", "t")).unwrap();
        let failure = Contexts::load(&path).unwrap().pick(Some("deb"), &path).unwrap_err();
        assert_eq!(failure.class, ExitClass::NotFound);
        assert!(failure.to_text().contains("dev"), "{}", failure.to_text());
    }
}
