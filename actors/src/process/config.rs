//! Configuration: one struct gives file, flags, environment and documentation.
//!
//! Options are a clap `Args` struct of optional fields that also derives `Deserialize`. Flags win over the environment
//! (both read by clap), the environment over the file, the file over the defaults.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest configuration file.
const FILE_MAX: u64 = 1 << 20;

/// Why a configuration cannot be used. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("configuration file {path}: {detail}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A value.
    #[error("configuration: {field}: found {found}, expected {expected}")]
    Value {
        /// Name of the option.
        field: &'static str,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
}

/// Reads options from a TOML file.
///
/// # Errors
/// [`ConfigError::File`] with the line and the key.
pub fn load_file<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let file = |detail: String| ConfigError::File { path: path.to_owned(), detail };
    let len = std::fs::metadata(path).map_err(|e| file(e.to_string()))?.len();
    if len > FILE_MAX {
        return Err(file(format!("{len} bytes, more than the {FILE_MAX} allowed")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| file(e.to_string()))?;
    toml::from_str(&text).map_err(|e| file(e.to_string()))
}

/// Fills what `options` leaves open from `file`.
///
/// # Errors
/// [`ConfigError::File`] if the two do not fit together, which would be a bug in the option struct.
pub fn resolve_options<T: Serialize + DeserializeOwned>(
    options: &T,
    file: Option<(&Path, T)>,
) -> Result<T, ConfigError> {
    let bug = |detail: String| ConfigError::File { path: PathBuf::from("(merged)"), detail };
    let mut merged = serde_json::Map::new();
    let mut layers = Vec::new();
    if let Some((_, file)) = file {
        layers.push(serde_json::to_value(file).map_err(|e| bug(e.to_string()))?);
    }
    layers.push(serde_json::to_value(options).map_err(|e| bug(e.to_string()))?);
    for layer in layers {
        let serde_json::Value::Object(fields) = layer else { continue };
        for (key, value) in fields {
            let is_set = match &value {
                serde_json::Value::Null => false,
                serde_json::Value::Array(list) => !list.is_empty(),
                serde_json::Value::Bool(flag) => *flag,
                _ => true,
            };
            if is_set || !merged.contains_key(&key) {
                merged.insert(key, value);
            }
        }
    }
    serde_json::from_value(serde_json::Value::Object(merged)).map_err(|e| bug(e.to_string()))
}
