//! Facts about homes of applications, and about who may use the API.

use bincode::{Decode, Encode};

use super::{Fact, View};
use crate::ids::{AppName, AppUid, Namespace};
use crate::token::Epoch;

/// An application, in the words of a member that speaks for it or keeps a copy of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AppFact {
    /// Uid.
    pub uid: AppUid,
    /// Namespace.
    pub namespace: Namespace,
    /// Name.
    pub name: AppName,
    /// The right to speak for it; its owner is the home.
    pub epoch: Epoch,
    /// Number of the specification.
    pub generation: u64,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// An API token, in the words of the hub that gave it out. From its hash nothing can be guessed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ApiTokenFact {
    /// Whose it is.
    pub name: String,
    /// What it may do: `viewer`, `operator`, `admin`.
    pub role: String,
    /// SHA-256 of its text.
    pub sha256: [u8; 32],
}

impl View {
    /// Applications the member speaks for, or keeps copies of.
    pub fn apps(&self) -> impl Iterator<Item = &AppFact> {
        self.facts().filter_map(|(_, fact)| match fact {
            Fact::App(app) => Some(&**app),
            _ => None,
        })
    }

    /// API tokens the member has given out; `None` if it says nothing of any. Only a hub's count.
    #[must_use]
    pub fn api_tokens(&self) -> Option<&[ApiTokenFact]> {
        match self.fact("api-tokens") {
            Some(Fact::ApiTokens(tokens)) if self.identity.is_hub() => Some(tokens),
            _ => None,
        }
    }

    /// Where the member answers people.
    #[must_use]
    pub fn api(&self) -> Option<std::net::SocketAddr> {
        match self.fact("api") {
            Some(Fact::Api(address)) => Some(*address),
            _ => None,
        }
    }
}
