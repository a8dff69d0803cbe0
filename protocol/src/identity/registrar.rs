//! The issuer's side of joining: a token and a signing request in, a certificate out.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bincode::{Decode, Encode};

use super::ca::{Ca, IssueError, Validity};
use super::clock::TrustClock;
use super::join_token::{JoinToken, TokenId, TokenSecret};
use super::token_book::{RedeemError, TokenBook, TokenBookError};
use crate::ids::Role;
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
    /// Welcome, and you found the electorate of your cluster: you vote alone at first.
    Founder(JoinGrant),
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

    /// Whether the bearer of a token that was used founds the electorate of its cluster.
    fn founds(&self, token: TokenId) -> bool;
}

/// Admits members with an authority of its own and a book of tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registrar {
    ca: Arc<RwLock<Arc<Ca>>>,
    book: Arc<Mutex<TokenBook>>,
    clock: TrustClock,
    life: Duration,
}

impl Registrar {
    /// Issues certificates that live for `life`.
    #[must_use]
    pub fn new(ca: Arc<Ca>, book: TokenBook, clock: TrustClock, life: Duration) -> Self {
        Self { ca: Arc::new(RwLock::new(ca)), book: Arc::new(Mutex::new(book)), clock, life }
    }

    /// The authority.
    #[must_use]
    pub fn ca(&self) -> Arc<Ca> {
        Arc::clone(&self.ca.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another authority issues from now on. Tokens given out before name the former one, and are refused by those who
    /// bear them.
    pub fn set_ca(&self, ca: Arc<Ca>) {
        *self.ca.write().unwrap_or_else(PoisonError::into_inner) = ca;
    }

    /// Makes a token that works for `life`. Writes to disk.
    ///
    /// # Errors
    /// [`TokenBookError`].
    pub fn create_token(&self, scope: Role, life: Duration) -> Result<JoinToken, TokenBookError> {
        self.with_book(|book| book.create(scope, self.ca().key_hash(), self.clock.now(), life))
    }

    /// The same; its bearer founds the electorate of its cluster. Whoever asks for it says that there is none: of two
    /// in one cluster each would follow its own lead.
    ///
    /// # Errors
    /// [`TokenBookError`].
    pub fn create_founding_token(&self, scope: Role, life: Duration) -> Result<JoinToken, TokenBookError> {
        self.with_book(|book| {
            let token = book.create(scope, self.ca().key_hash(), self.clock.now(), life)?;
            book.mark_founding(token.id)?;
            Ok(token)
        })
    }

    /// Gives access to the book, to list or revoke tokens.
    pub fn with_book<T>(&self, with: impl FnOnce(&mut TokenBook) -> T) -> T {
        with(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Redeems the token, then issues a certificate for a new identity of its scope; for the same one to a bearer that
    /// asks again with the same key, because the answer was lost. Writes to disk.
    ///
    /// # Errors
    /// [`JoinRefusal`]. A bad signing request is found before the token is touched; any other failure after the
    /// token was redeemed leaves it to that key, or, where that could not be written down, to nobody.
    pub fn admit(&self, request: &JoinRequest) -> Result<JoinGrant, JoinRefusal> {
        let now = self.clock.now();
        let validity = Validity::starting(now, self.life);
        let key = Ca::check_request(&request.signing_request)?;
        let member = self.with_book(|book| book.redeem(request.token, &request.secret, key, now))?;
        let ca = self.ca();
        let issued = ca.issue(&request.signing_request, &member, validity)?;
        Ok(JoinGrant {
            trust_domain: ca.trust_domain().to_string(),
            certificate: issued.der,
            ca: ca.certificate().to_vec(),
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

    fn founds(&self, token: TokenId) -> bool {
        self.with_book(|book| book.founds(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{CERTIFICATE_LIFE, Credentials, MemberKey, TokenBookLimits, TrustDomain};
    use crate::ids::ClusterName;
    use crate::units::WallTime;
    use crate::wire;

    const NOW: WallTime = WallTime(1_800_000_000_000);

    fn registrar(folder: &std::path::Path) -> Registrar {
        let ca = Ca::create(&TrustDomain::new("fleet.example").unwrap(), NOW).unwrap();
        let book = TokenBook::open(&folder.join("tokens.json"), TokenBookLimits::default()).unwrap();
        let clock = TrustClock::with_source(|| NOW);
        Registrar::new(Arc::new(ca), book, clock, CERTIFICATE_LIFE)
    }

    #[test]
    fn join_messages_have_golden_bytes() {
        let request = JoinRequest {
            token: TokenId(0x0102),
            secret: TokenSecret([7; 32]),
            signing_request: vec![0xaa, 0xbb],
        };
        let golden = [&[3, 0, 0, 0, 38, 0, 0, 0, 0xfb, 2, 1][..], &[7; 32], &[2, 0xaa, 0xbb]].concat();
        assert_eq!(wire::encode(&request).unwrap(), golden);

        let refusal = JoinRefusal { code: JoinRefusalCode::Unavailable, detail: "no".to_owned() };
        let golden = [4, 0, 0, 0, 5, 0, 0, 0, 1, 5, 2, b'n', b'o'];
        assert_eq!(wire::encode(&JoinReply::Refused(refusal)).unwrap(), golden);

        let grant = JoinGrant { trust_domain: "d".to_owned(), certificate: vec![1, 2], ca: vec![3] };
        let golden = [4, 0, 0, 0, 8, 0, 0, 0, 0, 1, b'd', 2, 1, 2, 1, 3];
        assert_eq!(wire::encode(&JoinReply::Granted(grant)).unwrap(), golden);
    }

    #[test]
    fn request_that_cannot_be_signed_does_not_cost_the_token_and_one_that_is_repeated_makes_no_second_member()
    {
        let folder = tempfile::tempdir().unwrap();
        let registrar = registrar(folder.path());
        let north = Role::Node(ClusterName::new("north").unwrap());
        let token = registrar.create_token(north.clone(), Duration::from_secs(60)).unwrap();
        let key = MemberKey::generate().unwrap();
        let mut request =
            JoinRequest { token: token.id, secret: token.secret, signing_request: b"garbage".to_vec() };
        let refusal = registrar.admit(&request).unwrap_err();
        assert_eq!(refusal.code, JoinRefusalCode::BadSigningRequest);

        request.signing_request = key.signing_request().unwrap();
        let grant = registrar.admit(&request).unwrap();
        let credentials = Credentials::new(&key, &grant.certificate, &grant.ca).unwrap();
        assert_eq!(credentials.identity().role, north);
        // The answer was lost.
        let again = registrar.admit(&request).unwrap();
        let again = Credentials::new(&key, &again.certificate, &again.ca).unwrap();
        assert_eq!(again.identity(), credentials.identity());
        request.signing_request = MemberKey::generate().unwrap().signing_request().unwrap();
        assert_eq!(registrar.admit(&request).unwrap_err().code, JoinRefusalCode::UsedToken);
    }
}
