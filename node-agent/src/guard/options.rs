//! How the guard is told what to do: arguments, so that it starts without any configuration file.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What a guard needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardOptions {
    /// Folder with the guard's lock, socket, mark and the logs of its containers. One guard per folder.
    pub state_folder: PathBuf,
    /// What workloads see as `CODECO_NODE`.
    pub node: String,
    /// Program and first arguments that end up in [`shim`](super::shim()).
    pub shim_command: Vec<OsString>,
    /// How long a guard without agent and without anything that runs stays. Default 10 s.
    pub idle_after: Duration,
}

/// Why arguments are no options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Not an option of the guard.
    #[error("{0:?} is not an option of the guard; expected --state, --node, --idle-millis or --shim")]
    Unknown(OsString),
    /// The option's value is missing or not usable.
    #[error("the guard's option {0} needs a value that it can use")]
    Value(&'static str),
}

impl GuardOptions {
    /// Options with the default of `idle_after`.
    #[must_use]
    pub fn new(state_folder: PathBuf, node: String, shim_command: Vec<OsString>) -> Self {
        Self { state_folder, node, shim_command, idle_after: Duration::from_secs(10) }
    }

    /// The arguments that [`parse`](Self::parse) reads.
    #[must_use]
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![
            "--state".into(),
            self.state_folder.clone().into(),
            "--node".into(),
            self.node.clone().into(),
            "--idle-millis".into(),
            self.idle_after.as_millis().to_string().into(),
        ];
        for part in &self.shim_command {
            args.extend(["--shim".into(), part.clone()]);
        }
        args
    }

    /// Reads `--state DIR --node NAME [--idle-millis N] --shim PROGRAM [--shim ARG]…`.
    ///
    /// # Errors
    /// [`OptionsError`] names the option.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, OptionsError> {
        let (mut state, mut node, mut idle, mut shim) = (None, None, Duration::from_secs(10), Vec::new());
        let mut args = args.into_iter();
        while let Some(option) = args.next() {
            match option.to_str() {
                Some("--state") => state = args.next(),
                Some("--node") => node = args.next().and_then(|node| node.into_string().ok()),
                Some("--shim") => shim.push(args.next().ok_or(OptionsError::Value("--shim"))?),
                Some("--idle-millis") => {
                    let millis = args.next().and_then(|text| text.to_str()?.parse().ok());
                    idle = Duration::from_millis(millis.ok_or(OptionsError::Value("--idle-millis"))?);
                }
                _ => return Err(OptionsError::Unknown(option)),
            }
        }
        if shim.is_empty() {
            return Err(OptionsError::Value("--shim"));
        }
        Ok(Self {
            state_folder: state.map(PathBuf::from).ok_or(OptionsError::Value("--state"))?,
            node: node.ok_or(OptionsError::Value("--node"))?,
            shim_command: shim,
            idle_after: idle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_written_as_arguments_are_read_back() {
        let options =
            GuardOptions::new("a b/c".into(), "edge-1".into(), vec!["codeco".into(), "shim".into()]);
        assert_eq!(GuardOptions::parse(options.to_args()).unwrap(), options);
    }

    #[test]
    fn options_unknown_or_missing_are_named() {
        assert_eq!(GuardOptions::parse(["--what".into()]), Err(OptionsError::Unknown("--what".into())));
        let without_state = ["--node", "n", "--shim", "s"].map(OsString::from);
        assert_eq!(GuardOptions::parse(without_state), Err(OptionsError::Value("--state")));
    }
}
