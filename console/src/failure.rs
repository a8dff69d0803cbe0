//! What a command failed with: what happened, to which object, what to do next, and the exit code of its class.

use std::fmt::Write as _;
use std::io;

use codeco_protocol::api::{ErrorBody, ErrorCode, ManifestError, codes};

/// Exit codes. Stable: scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitClass {
    /// Nothing failed; also when whoever reads our output has closed it.
    Done = 0,
    /// Anything else.
    Error = 1,
    /// The command was called wrongly.
    Usage = 2,
    /// The object is not there.
    NotFound = 3,
    /// The hub refused: no token, or a role that may not do this.
    Refused = 4,
    /// The hub cannot be reached.
    Unreachable = 5,
    /// The manifest is wrong.
    InvalidManifest = 6,
    /// Somebody did not answer in time.
    Timeout = 7,
    /// `plan --detailed-exitcode`: applying would change something. The process exits with 2, as terraform does.
    Changes = 102,
    /// `doctor`: something was found that does not work. The process exits with 1.
    Ailing = 103,
}

impl ExitClass {
    /// The exit code of the process.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Changes => 2,
            Self::Ailing => 1,
            other => other as u8,
        }
    }

    /// Whether nothing failed: then nothing is written to standard error.
    pub(crate) fn is_answer(self) -> bool {
        matches!(self, Self::Done | Self::Changes | Self::Ailing)
    }
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Class, for the exit code.
    pub(crate) class: ExitClass,
    /// For people.
    pub(crate) body: ErrorBody,
}

impl Failure {
    pub(crate) fn new(class: ExitClass, code: ErrorCode, message: impl Into<String>) -> Self {
        let (object, next, details) = (None, None, Vec::new());
        Self {
            class,
            body: ErrorBody { code: code.word().to_owned(), message: message.into(), object, next, details },
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitClass::Usage, codes::USAGE, message)
    }

    /// `object` such as `app/web` is not there.
    pub(crate) fn not_found(object: impl Into<String>) -> Self {
        let object = object.into();
        let mut failure = Self::new(ExitClass::NotFound, codes::NOT_FOUND, format!("{object} was not found"));
        failure.body.object = Some(object);
        failure
    }

    pub(crate) fn manifests(details: Vec<ManifestError>) -> Self {
        let count = details.len();
        let plural = if count == 1 { "" } else { "s" };
        let message = format!("{count} error{plural}, nothing was applied");
        let mut failure = Self::new(ExitClass::InvalidManifest, codes::INVALID_MANIFEST, message)
            .next("correct the fields named and apply again");
        failure.body.details = details;
        failure
    }

    pub(crate) fn about(mut self, object: impl Into<String>) -> Self {
        self.body.object = Some(object.into());
        self
    }

    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.body.next = Some(next.into());
        self
    }

    /// What the hub answered with `status`.
    pub(crate) fn answered(status: u16, body: ErrorBody) -> Self {
        let class = match status {
            400 | 405 | 413 => ExitClass::Usage,
            401 | 403 => ExitClass::Refused,
            404 => ExitClass::NotFound,
            408 | 504 => ExitClass::Timeout,
            422 if body.code == codes::INVALID_MANIFEST.word() => ExitClass::InvalidManifest,
            503 => ExitClass::Unreachable,
            _ => ExitClass::Error,
        };
        Self { class, body }
    }

    /// As it is written to standard error.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for detail in &self.body.details {
            let _ = writeln!(text, "{detail}");
        }
        let _ = writeln!(text, "error: {} [{}]", self.body.message, self.body.code);
        if let Some(object) = self.body.object.as_ref().filter(|object| !self.body.message.contains(*object))
        {
            let _ = writeln!(text, "object: {object}");
        }
        if let Some(next) = &self.body.next {
            let _ = writeln!(text, "next: {next}");
        }
        crate::render::clean_lines(&text)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::new(ExitClass::Done, codes::CLOSED, "the output was closed")
        } else {
            Self::new(ExitClass::Error, codes::OUTPUT, format!("cannot write the output: {error}"))
        }
    }
}
