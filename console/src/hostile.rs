//! What the command makes of arbitrary bytes in its file of contexts: a door for `codeco-fuzz`, and for nobody else.

use std::path::Path;

use crate::contexts::{Context, Contexts};

/// Reads a file of contexts, and picks the one in use.
///
/// # Errors
/// What is wrong with it, for people.
pub fn contexts(content: &[u8]) -> Result<usize, String> {
    let contexts = Contexts::parse(content).map_err(|error| error.to_string())?;
    if let Ok(context) = contexts.pick(None, Path::new("contexts.yaml")) {
        let _ = context.role();
    }
    Ok(contexts.contexts.len())
}

/// A file of contexts.
#[must_use]
pub fn contexts_sample() -> String {
    let context = |name: &str| Context {
        name: name.to_owned(),
        server: "https://127.0.0.1:7443".to_owned(),
        ca: "-----BEGIN CERTIFICATE-----".to_owned(),
        token: "codeco-api.admin.x".to_owned(),
        members: vec!["https://127.0.0.1:7444".to_owned()],
    };
    let all = Contexts { current: Some("dev".to_owned()), contexts: vec![context("dev"), context("prod")] };
    serde_yaml_ng::to_string(&all).unwrap_or_default()
}
