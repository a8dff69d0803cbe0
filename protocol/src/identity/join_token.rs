//! Invitations: one text that an operator copies to a new node.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ca::KeyHash;
use crate::ids::Role;
use crate::units::WallTime;
use crate::wire::{self, WireMessage, kinds};

/// How every token starts, with the version of its form.
const PREFIX: &str = "codeco1.";

/// A checksum of this many bytes tells a mistyped token from a refused one.
const CHECKSUM_LEN: usize = 4;

/// Longest text looked at. An honest token has about 230 characters.
const TEXT_LEN_MAX: usize = 512;

/// Names a token, without giving anything away: safe to log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct TokenId(pub u64);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TokenId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// The one-time secret of a token. Never printed; compared in constant time.
#[derive(Clone, Encode, Decode)]
pub struct TokenSecret(pub(super) [u8; 32]);

impl TokenSecret {
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// SHA-256 of the secret, which is all an issuer keeps.
    pub(super) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl PartialEq for TokenSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenSecret {}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret")
    }
}

/// Why a text is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// Does not start like one.
    #[error("a join token starts with `{PREFIX}`: copy it whole, as `codeco token create` printed it")]
    Prefix,
    /// Longer than any.
    #[error("a join token has at most {TEXT_LEN_MAX} characters, but this text has {len}")]
    TooLong {
        /// Length found.
        len: usize,
    },
    /// Mistyped or cut off.
    #[error("the join token was changed or cut off on its way ({detail}): copy it again")]
    Damaged {
        /// What is wrong.
        detail: String,
    },
}

/// An invitation to join: names the authority to trust, and carries the secret that proves it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct JoinToken {
    /// Names the token.
    pub id: TokenId,
    /// Proves that one was invited; works once.
    pub secret: TokenSecret,
    /// The authority to trust.
    pub ca: KeyHash,
    /// What the bearer becomes.
    pub scope: Role,
    /// Until when it can be used.
    pub expires: WallTime,
}

impl WireMessage for JoinToken {
    const KIND: u16 = kinds::JOIN_TOKEN;
    const MAX_LEN: usize = 256;
}

impl JoinToken {
    /// The text to hand over. It contains the secret, hence no `Display`.
    #[must_use]
    pub fn to_text(&self) -> String {
        // A token is far below its limit, so encoding cannot fail; an empty one would be refused as damaged.
        let mut bytes = wire::encode(self).unwrap_or_default();
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let damaged = |detail: String| JoinTokenError::Damaged { detail };
        let text = text.trim();
        if text.len() > TEXT_LEN_MAX {
            return Err(JoinTokenError::TooLong { len: text.len() });
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(JoinTokenError::Prefix)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|e| damaged(e.to_string()))?;
        let (body, found) =
            bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or_else(|| damaged("too short".to_owned()))?;
        if checksum(body) != *found {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        wire::decode(body).map_err(|e| damaged(e.to_string()))
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest = Sha256::digest(bytes);
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::ClusterName;

    fn token() -> JoinToken {
        JoinToken {
            id: TokenId(0xabc),
            secret: TokenSecret([7; 32]),
            ca: KeyHash([9; 32]),
            scope: Role::Node(ClusterName::new("north").unwrap()),
            expires: WallTime(1_800_000_000_000),
        }
    }

    #[test]
    fn token_text_is_golden_and_parses_to_the_same_token() {
        let text = token().to_text();
        let golden = "codeco1.BQAAAFMAAAD7vAoHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ\
                      CQkJCQkJAQVub3J0aP0AUFwYowEAADQvL_s";
        assert_eq!(text, golden);
        assert_eq!(text.parse::<JoinToken>().unwrap(), token());
        assert_eq!(format!(" {text}\n").parse::<JoinToken>().unwrap(), token(), "pasted with white space");
    }

    #[test]
    fn token_debug_text_does_not_contain_the_secret() {
        let debug = format!("{:?}", token());
        assert!(debug.contains("TokenSecret") && !debug.contains("7, 7"), "{debug}");
    }

    #[test]
    fn token_text_with_any_character_changed_or_cut_off_is_refused_with_advice() {
        let text = token().to_text();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let error = changed.parse::<JoinToken>().expect_err(&changed);
            assert!(error.to_string().contains("copy it"), "{error}");
            assert!(text[..at].parse::<JoinToken>().is_err(), "cut at {at}");
        }
        assert_eq!("x".repeat(513).parse::<JoinToken>(), Err(JoinTokenError::TooLong { len: 513 }));
    }

    proptest! {
        #[test]
        fn token_parser_fed_garbage_never_panics(text in ".{0,600}", bytes in any::<Vec<u8>>()) {
            let _ = text.parse::<JoinToken>();
            let with_checksum = [&bytes[..], &checksum(&bytes)].concat();
            let framed = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(with_checksum));
            prop_assert!(framed.parse::<JoinToken>().is_err());
        }
    }
}
