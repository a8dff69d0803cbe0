//! What private readers of this crate make of arbitrary bytes: doors for `codeco-fuzz`, and for nobody else.

use crate::identity::TokenBook;
pub use crate::transport::hostile::{hello, relayed, relayed_sample};

/// Reads a file of join tokens; the text says what is wrong with it.
///
/// # Errors
/// What is wrong.
pub fn token_book(content: &[u8]) -> Result<usize, String> {
    TokenBook::read(content)
}
