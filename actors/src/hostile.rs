//! What private readers of this crate make of arbitrary bytes: doors for `codeco-fuzz`, and for nobody else.

use std::path::Path;

use codeco_protocol::wire::WireMessage;

pub use crate::acm::api::api_tokens;
use crate::journal::{self, JournalError};
pub use crate::session::hostile::{
    samples as session_samples, session_answer, session_frame, session_request,
};

/// The records of a journal of that content, and how much of it checks.
///
/// # Errors
/// [`JournalError`].
pub fn journal<R: WireMessage>(content: &[u8]) -> Result<(Vec<R>, u64), JournalError> {
    journal::read(Path::new("journal"), content)
}
