//! The issuer's side of joining: a token and a signing request in, a certificate out.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bincode::{Decode, Encode};

use super::ca::{Ca, IssueError, Validity};
use super::clock::TrustClock;
use super::join_token::{JoinToken, TokenId, TokenSecret};
use super::token_book::{RedeemError, TokenBook, TokenBookError};
use crate::ids::{Identity, MemberId, Role};
use crate::wire::{WireMessage, kinds};

/// Asks to become a member.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct JoinRequest {
    /// The token shown.
    pub token: TokenId,
    /// Its secret.
    pub secret: TokenSecret,
    /// PKCS#10 request, DER: only its public key counts.
    pub signing_request: Vec<u8>,
}

impl WireMessage for JoinRequest {
    const KIND: u16 = kinds::JOIN_REQUEST;
    const MAX_LEN: usize = 2048;
}

/// Answer to a [`JoinRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum JoinReply {
    /// Welcome.
    Granted(JoinGrant),
    /// No.
    Refused(JoinRefusal),
}

impl WireMessage for JoinReply {
    const KIND: u16 = kinds::JOIN_REPLY;
    const MAX_LEN: usize = 16 << 10;
}

/// What a new member gets.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct JoinGrant {
    /// Name of the trust domain.
    pub trust_domain: String,
    /// The member's certificate, DER.
    pub certificate: Vec<u8>,
    /// The authority's certificate, DER.
    pub ca: Vec<u8>,
}

/// Why a join was refused, as a stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum JoinRefusalCode {
    /// Nobody here knows the token.
    UnknownToken,
    /// It was used before.
    UsedToken,
    /// It has expired.
    ExpiredToken,
    /// Its secret is wrong.
    WrongSecret,
    /// The signing request is not acceptable.
    BadSigningRequest,
    /// This process does not admit members, or cannot at the moment. Try again or elsewhere.
    Unavailable,
}

/// Why a join was refused.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[error("{detail}")]
pub struct JoinRefusal {
    /// For programs.
    pub code: JoinRefusalCode,
    /// For people.
    pub detail: String,
}

impl From<RedeemError> for JoinRefusal {
    fn from(error: RedeemError) -> Self {
        let code = match error {
            RedeemError::Unknown { .. } => JoinRefusalCode::UnknownToken,
            RedeemError::Used { .. } => JoinRefusalCode::UsedToken,
            RedeemError::Expired { .. } => JoinRefusalCode::ExpiredToken,
            RedeemError::WrongSecret { .. } => JoinRefusalCode::WrongSecret,
            RedeemError::NotRecorded { .. } => JoinRefusalCode::Unavailable,
        };
        Self { code, detail: error.to_string() }
    }
}

impl From<IssueError> for JoinRefusal {
    fn from(error: IssueError) -> Self {
        let code = match error {
            IssueError::BadRequest { .. } => JoinRefusalCode::BadSigningRequest,
            IssueError::BadValidity { .. } | IssueError::Crypto { .. } => JoinRefusalCode::Unavailable,
        };
        Self { code, detail: error.to_string() }
    }
}

/// Decides about requests to join.
#[async_trait]
pub trait JoinHandler: Send + Sync + fmt::Debug + 'static {
    /// Answers `request`, which came from `peer`. Called once per connection, many at a time; may be dropped at the
    /// transport's deadline.
    async fn join(&self, peer: SocketAddr, request: JoinRequest) -> Result<JoinGrant, JoinRefusal>;
}

/// Admits members with an authority of its own and a book of tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registrar {
    ca: Arc<Ca>,
    book: Arc<Mutex<TokenBook>>,
    clock: TrustClock,
    life: Duration,
}

impl Registrar {
    /// Issues certificates that live for `life`.
    #[must_use]
    pub fn new(ca: Arc<Ca>, book: TokenBook, clock: TrustClock, life: Duration) -> Self {
        Self { ca, book: Arc::new(Mutex::new(book)), clock, life }
    }

    /// The authority.
    #[must_use]
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// Makes a token that works for `life`. Writes to disk.
    ///
    /// # Errors
    /// [`TokenBookError`].
    pub fn create_token(&self, scope: Role, life: Duration) -> Result<JoinToken, TokenBookError> {
        self.with_book(|book| book.create(scope, self.ca.key_hash(), self.clock.now(), life))
    }

    /// Gives access to the book, to list or revoke tokens.
    pub fn with_book<T>(&self, with: impl FnOnce(&mut TokenBook) -> T) -> T {
        with(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Redeems the token, then issues a certificate for a new identity of its scope. Writes to disk.
    ///
    /// # Errors
    /// [`JoinRefusal`]. A bad signing request is found before the token is touched; any other failure after the
    /// token was redeemed leaves it used.
    pub fn admit(&self, request: &JoinRequest) -> Result<JoinGrant, JoinRefusal> {
        let now = self.clock.now();
        let id = MemberId::random();
        let validity = Validity::starting(now, self.life);
        Ca::check_request(&request.signing_request)?;
        let role = self.with_book(|book| book.redeem(request.token, &request.secret, now))?;
        let issued = self.ca.issue(&request.signing_request, &Identity { role, id }, validity)?;
        Ok(JoinGrant {
            trust_domain: self.ca.trust_domain().to_string(),
            certificate: issued.der,
            ca: self.ca.certificate().to_vec(),
        })
    }
}

#[async_trait]
impl JoinHandler for Registrar {
    async fn join(&self, _: SocketAddr, request: JoinRequest) -> Result<JoinGrant, JoinRefusal> {
        let registrar = self.clone();
        let admitted = tokio::task::spawn_blocking(move || registrar.admit(&request)).await;
        admitted.unwrap_or_else(|e| {
            Err(JoinRefusal { code: JoinRefusalCode::Unavailable, detail: format!("the issuer failed: {e}") })
        })
    }
}
