//! Facts signed by their owner, so that others can pass them on and nobody can change them.
//!
//! Each change of a map is signed once, over trust domain, owner, life of the map, key, version, value, and a sum over
//! all that the map holds at that version. The sum shows what somebody who passes facts on has left out.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};

use super::facts::Fact;
use super::state::Delta;
use crate::ids::Identity;
use crate::wire::{self, WireMessage};

/// Length of an Ed25519 signature, in bytes.
const SIGNATURE_LEN: usize = 64;
/// Certificates of an owner at most.
const CHAIN_MAX: usize = 4;

/// The owner's signature of one change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Seal {
    /// Sum over what the map holds after the change.
    pub sum: u64,
    /// Ed25519; empty where it was not signed yet.
    pub signature: Vec<u8>,
}

/// Signs with an Ed25519 key; `None` if it cannot.
pub type Sign = Arc<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// Makes the owner's signatures.
#[derive(Clone)]
pub struct Signer {
    /// Name of the trust domain.
    pub domain: String,
    /// Who signs.
    pub owner: Identity,
    /// Signs.
    pub sign: Sign,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.owner)
    }
}

/// What is signed.
#[derive(Encode, Decode)]
struct Statement {
    domain: String,
    owner: Identity,
    incarnation: u64,
    key: String,
    version: u64,
    sum: u64,
    fact: Option<Fact>,
}

impl WireMessage for Statement {
    const KIND: u16 = 50;
    const MAX_LEN: usize = 1 << 20;
}

impl Signer {
    pub(super) fn signature(
        &self,
        incarnation: u64,
        (key, version, fact): (&str, u64, Option<&Fact>),
        sum: u64,
    ) -> Option<Vec<u8>> {
        (self.sign)(&text(&self.domain, &self.owner, incarnation, (key, version, fact), sum)?)
    }
}

fn text(
    domain: &str,
    owner: &Identity,
    incarnation: u64,
    (key, version, fact): (&str, u64, Option<&Fact>),
    sum: u64,
) -> Option<Vec<u8>> {
    let statement = Statement {
        domain: domain.to_owned(),
        owner: owner.clone(),
        incarnation,
        key: key.to_owned(),
        version,
        sum,
        fact: fact.cloned(),
    };
    wire::encode(&statement).ok()
}

/// What one entry adds to the sum of its map.
pub(super) fn share(key: &str, version: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(version.to_le_bytes());
    hash.update(key.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// Facts of `owner`, from itself or passed on.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct SealedDelta {
    /// Whose.
    pub owner: Identity,
    /// Its certificates, DER, where the receiver may not know its key: with the beginning of a map.
    pub chain: Vec<Vec<u8>>,
    /// What has changed.
    pub delta: Delta,
    /// A seal for each fact, in the same order.
    pub seals: Vec<Seal>,
}

/// Why facts are not their owner's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not one seal for each fact, or facts out of order.
    #[error("facts of {owner} are not one signature each, in the order of their versions, up to the last")]
    Shape {
        /// Whose they are said to be.
        owner: Identity,
    },
    /// A signature that is not the owner's.
    #[error("{owner} has not signed version {version} of {key:?}")]
    Signature {
        /// Whose it is said to be.
        owner: Identity,
        /// The fact, cut to 80 characters.
        key: String,
        /// Its version.
        version: u64,
    },
}

impl SealedDelta {
    /// Checks that `key`, the owner's, has signed every fact, and that nothing is claimed beyond them.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn verify(&self, domain: &str, key: &[u8]) -> Result<(), SealError> {
        let owner = || self.owner.clone();
        let (facts, mut last) = (&self.delta.facts, self.delta.from);
        if facts.len() != self.seals.len() || self.chain.len() > CHAIN_MAX {
            return Err(SealError::Shape { owner: owner() });
        }
        let key = UnparsedPublicKey::new(&ED25519, key);
        for ((name, version, fact), seal) in facts.iter().zip(&self.seals) {
            if *version <= last || seal.signature.len() != SIGNATURE_LEN {
                return Err(SealError::Shape { owner: owner() });
            }
            last = *version;
            let wrong = || SealError::Signature {
                owner: owner(),
                key: name.chars().take(80).collect(),
                version: *version,
            };
            let incarnation = self.delta.incarnation;
            let text = text(domain, &self.owner, incarnation, (name, *version, fact.as_ref()), seal.sum)
                .ok_or_else(wrong)?;
            key.verify(&text, &seal.signature).map_err(|_| wrong())?;
        }
        if last == self.delta.to { Ok(()) } else { Err(SealError::Shape { owner: owner() }) }
    }
}
