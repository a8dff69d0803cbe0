//! The issuer's record of the tokens it gave out.
//!
//! A token makes one member. That must survive a crash at any moment, so its use is on disk before anything is issued
//! for it, with the key it was used for: a bearer whose answer was lost asks again with the same key, soon, and is the
//! same member. Any other key is refused, and so is that one later, or once anything was revoked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::ca::KeyHash;
use super::files::{self, FileError};
use super::join_token::{JoinToken, TokenId, TokenSecret};
use crate::ids::{Identity, MemberId, Role};
use crate::units::WallTime;

/// Form of the file. A newer form is refused, so that an older program never drops what it does not know. The first did
/// not say who had used a token.
const FORMAT: u32 = 2;

/// Largest book read, in bytes: far more than [`TokenBookLimits`] allows to be written by default.
const FILE_LEN_MAX: u64 = 4 << 20;

/// For so long after its use a token answers the key it was used for: a supervisor has started a process that gave up
/// again by then.
const AGAIN_FOR: Duration = Duration::from_secs(15 * 60);

/// How much a [`TokenBook`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBookLimits {
    /// Tokens that may be open at once. 1,000 by default: a fleet being installed.
    pub live_max: usize,
    /// Used and expired tokens remembered, so that their bearers are told why they are refused. 1,000 by default;
    /// the oldest are forgotten first and are then unknown.
    pub closed_max: usize,
    /// How long they are remembered after their expiry. A week by default.
    pub remember_for: Duration,
}

impl Default for TokenBookLimits {
    fn default() -> Self {
        Self { live_max: 1_000, closed_max: 1_000, remember_for: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// Why the book could not be opened, or a token not be written into it. Nothing was given out.
#[derive(Debug, thiserror::Error)]
pub enum TokenBookError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a book.
    #[error("{path} is not a book of join tokens of format {FORMAT}: {detail}", path = path.display())]
    NotABook {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Too many tokens are open.
    #[error(
        "{live_max} join tokens are open, which is the limit: use them, revoke some or wait until some expire"
    )]
    Full {
        /// The limit.
        live_max: usize,
    },
    /// The system has no randomness.
    #[error("no random bytes for a secret: {detail}")]
    Randomness {
        /// What the system said.
        detail: String,
    },
}

/// Why a token is refused. Only [`RedeemError::NotRecorded`] is a fault of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedeemError {
    /// Never given out here, or forgotten since.
    #[error("join token {id} is unknown here: create one with `codeco token create`")]
    Unknown {
        /// The token.
        id: TokenId,
    },
    /// Already used or revoked.
    #[error("join token {id} was used before: each works once, create another with `codeco token create`")]
    Used {
        /// The token.
        id: TokenId,
    },
    /// Too late.
    #[error("join token {id} has expired: create another with `codeco token create`")]
    Expired {
        /// The token.
        id: TokenId,
    },
    /// The secret does not match. The token stays open.
    #[error("join token {id} comes with a wrong secret: copy the token whole")]
    WrongSecret {
        /// The token.
        id: TokenId,
    },
    /// The use could not be written down, so nothing may be issued. The token counts as used until a restart shows
    /// what the disk holds.
    #[error("the use of join token {id} could not be recorded: {detail}")]
    NotRecorded {
        /// The token.
        id: TokenId,
        /// What went wrong.
        detail: String,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    secret_sha256: [u8; 32],
    scope: Role,
    expires: WallTime,
    used: Option<WallTime>,
    /// Who used it; absent where it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bearer: Option<Bearer>,
    /// Whether its bearer founds the electorate of its cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    founds: bool,
}

/// Whom a token has made a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bearer {
    key_sha256: [u8; 32],
    member: MemberId,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    format: u32,
    tokens: BTreeMap<String, Entry>,
}

/// All tokens an issuer gave out, with the hashes of their secrets. One writer; the file is rewritten atomically.
#[derive(Debug)]
pub struct TokenBook {
    path: PathBuf,
    limits: TokenBookLimits,
    entries: BTreeMap<TokenId, Entry>,
}

impl TokenBook {
    /// Opens the book at `path`; an absent file is an empty book.
    ///
    /// # Errors
    /// [`TokenBookError::File`] or [`TokenBookError::NotABook`].
    pub fn open(path: &Path, limits: TokenBookLimits) -> Result<Self, TokenBookError> {
        let entries = match files::read_private(path, FILE_LEN_MAX) {
            Ok(content) => parse(&content)
                .map_err(|detail| TokenBookError::NotABook { path: path.to_owned(), detail })?,
            Err(e) if e.is_not_found() => BTreeMap::new(),
            Err(e) => return Err(e.into()),
        };
        Ok(Self { path: path.to_owned(), limits, entries })
    }

    /// How many tokens a file of that content holds.
    pub(crate) fn read(content: &[u8]) -> Result<usize, String> {
        parse(content).map(|entries| entries.len())
    }

    /// Makes a token that lets its bearer become a `scope` until `life` from now. On disk when this returns.
    ///
    /// # Errors
    /// [`TokenBookError::Full`], [`TokenBookError::File`] or [`TokenBookError::Randomness`].
    pub fn create(
        &mut self,
        scope: Role,
        ca: KeyHash,
        now: WallTime,
        life: Duration,
    ) -> Result<JoinToken, TokenBookError> {
        let no_randomness = |e: getrandom::Error| TokenBookError::Randomness { detail: e.to_string() };
        self.prune(now);
        let live = self.entries.values().filter(|entry| entry.is_live(now)).count();
        if live >= self.limits.live_max {
            return Err(TokenBookError::Full { live_max: self.limits.live_max });
        }
        let id = TokenId(getrandom::u64().map_err(no_randomness)?);
        let secret = TokenSecret::random().map_err(no_randomness)?;
        let expires = WallTime(now.0.saturating_add(millis(life)));
        let entry = Entry {
            secret_sha256: secret.hash(),
            scope: scope.clone(),
            expires,
            used: None,
            bearer: None,
            founds: false,
        };
        let before = self.entries.insert(id, entry);
        if let Err(e) = self.save() {
            self.entries.remove(&id);
            self.entries.extend(before.map(|entry| (id, entry)));
            return Err(e.into());
        }
        Ok(JoinToken { id, secret, ca, scope, expires })
    }

    /// Uses a token up for the bearer of `key` and says who that is from now on. The use is on disk when this returns
    /// `Ok`. Asked again with the same key within a quarter of an hour, and before the token expires, it says the same.
    ///
    /// # Errors
    /// [`RedeemError`]; a token refused for its secret or not found is left as it was.
    pub fn redeem(
        &mut self,
        id: TokenId,
        secret: &TokenSecret,
        key: KeyHash,
        now: WallTime,
    ) -> Result<Identity, RedeemError> {
        self.prune(now);
        let Some(entry) = self.entries.get_mut(&id) else { return Err(RedeemError::Unknown { id }) };
        // First the secret: whoever cannot prove it learns nothing about the token's state.
        if !bool::from(entry.secret_sha256.ct_eq(&secret.hash())) {
            return Err(RedeemError::WrongSecret { id });
        }
        let recent = entry.used.is_some_and(|used| now.0 < used.0.saturating_add(millis(AGAIN_FOR)));
        let again = entry.bearer.filter(|bearer| recent && bearer.key_sha256 == key.0);
        if entry.used.is_some() && again.is_none() {
            return Err(RedeemError::Used { id });
        }
        if now >= entry.expires {
            return Err(RedeemError::Expired { id });
        }
        let role = entry.scope.clone();
        if let Some(Bearer { member, .. }) = again {
            return Ok(Identity { role, id: member });
        }
        let member = MemberId::random();
        entry.used = Some(now);
        entry.bearer = Some(Bearer { key_sha256: key.0, member });
        match self.save() {
            Ok(()) => Ok(Identity { role, id: member }),
            Err(e) => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.bearer = None;
                }
                Err(RedeemError::NotRecorded { id, detail: e.to_string() })
            }
        }
    }

    /// Has the bearer of an open token found the electorate of its cluster. On disk when this returns `Ok`.
    ///
    /// # Errors
    /// [`FileError`]; the token is not marked then.
    pub(super) fn mark_founding(&mut self, id: TokenId) -> Result<(), FileError> {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.founds = true;
        }
        self.save().inspect_err(|_| {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.founds = false;
            }
        })
    }

    /// Whether the bearer of a token founds the electorate of its cluster.
    #[must_use]
    pub fn founds(&self, id: TokenId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.founds)
    }

    /// Closes an open token, as if it had been used. Returns whether it was open.
    ///
    /// # Errors
    /// [`FileError`] if that could not be written down; it is closed until the next start all the same.
    pub fn revoke(&mut self, id: TokenId, now: WallTime) -> Result<bool, FileError> {
        match self.entries.get_mut(&id) {
            Some(entry) if entry.is_live(now) => entry.used = Some(now),
            _ => return Ok(false),
        }
        self.save().map(|()| true)
    }

    /// No token that was used answers its bearer again: an operator has revoked something, and nobody is to get a
    /// certificate in its place. On disk when this returns `Ok`.
    ///
    /// # Errors
    /// [`FileError`]; they answer nobody until the next start all the same.
    pub fn forget_bearers(&mut self) -> Result<(), FileError> {
        let mut known = false;
        for entry in self.entries.values_mut() {
            known |= entry.bearer.take().is_some();
        }
        if known { self.save() } else { Ok(()) }
    }

    /// Open tokens: id, what the bearer becomes, expiry.
    pub fn live(&self, now: WallTime) -> impl Iterator<Item = (TokenId, &Role, WallTime)> {
        self.entries
            .iter()
            .filter(move |(_, entry)| entry.is_live(now))
            .map(|(id, entry)| (*id, &entry.scope, entry.expires))
    }

    /// Forgets closed tokens that are too old or too many. Reaches the disk with the next change.
    fn prune(&mut self, now: WallTime) {
        let remember = millis(self.limits.remember_for);
        self.entries
            .retain(|_, entry| entry.is_live(now) || entry.closed_at().0.saturating_add(remember) > now.0);
        let mut closed: Vec<(WallTime, TokenId)> = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.is_live(now))
            .map(|(id, entry)| (entry.closed_at(), *id))
            .collect();
        closed.sort_unstable();
        let surplus = closed.len().saturating_sub(self.limits.closed_max);
        for (_, id) in closed.into_iter().take(surplus) {
            self.entries.remove(&id);
        }
    }

    fn save(&self) -> Result<(), FileError> {
        let tokens = self.entries.iter().map(|(id, entry)| (id.to_string(), entry.clone())).collect();
        let content = serde_json::to_vec(&Page { format: FORMAT, tokens }).map_err(|e| FileError::Io {
            action: "encode",
            path: self.path.clone(),
            source: e.into(),
        })?;
        files::write_private(&self.path, &content)
    }
}

impl Entry {
    fn is_live(&self, now: WallTime) -> bool {
        self.used.is_none() && now < self.expires
    }

    /// For pruning: a used token must be remembered at least until it would have expired, or it would be live again
    /// nowhere but «unknown» too early.
    fn closed_at(&self) -> WallTime {
        self.used.map_or(self.expires, |used| used.max(self.expires))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn parse(content: &[u8]) -> Result<BTreeMap<TokenId, Entry>, String> {
    let page: Page = serde_json::from_slice(content).map_err(|e| e.to_string())?;
    if !(1..=FORMAT).contains(&page.format) {
        return Err(format!("it is of format {}", page.format));
    }
    page.tokens
        .into_iter()
        .map(|(id, entry)| Ok((id.parse().map_err(|_| format!("{id:?} is no token id"))?, entry)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClusterName;

    const NOW: WallTime = WallTime(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn later(span: Duration) -> WallTime {
        WallTime(NOW.0 + millis(span))
    }

    fn north() -> Role {
        Role::Node(ClusterName::new("north").unwrap())
    }

    struct Desk {
        _folder: tempfile::TempDir,
        path: PathBuf,
        book: TokenBook,
    }

    fn desk(limits: TokenBookLimits) -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let book = TokenBook::open(&path, limits).unwrap();
        Desk { _folder: folder, path, book }
    }

    const KEY: KeyHash = KeyHash([7; 32]);

    /// What the bearer of [`KEY`] becomes.
    fn redeem(book: &mut TokenBook, token: &JoinToken, now: WallTime) -> Result<Role, RedeemError> {
        book.redeem(token.id, &token.secret, KEY, now).map(|identity| identity.role)
    }

    fn create(book: &mut TokenBook) -> JoinToken {
        book.create(north(), KeyHash([1; 32]), NOW, HOUR).unwrap()
    }

    #[test]
    fn token_makes_one_member_also_after_a_restart() {
        let mut desk = desk(TokenBookLimits::default());
        let token = create(&mut desk.book);
        // The issuer restarts twice: between creation and use, and right after the use.
        let mut book = TokenBook::open(&desk.path, TokenBookLimits::default()).unwrap();
        let first = book.redeem(token.id, &token.secret, KEY, NOW).unwrap();
        assert_eq!(first.role, north());
        let mut book = TokenBook::open(&desk.path, TokenBookLimits::default()).unwrap();
        let other = book.redeem(token.id, &token.secret, KeyHash([8; 32]), NOW);
        assert_eq!(other, Err(RedeemError::Used { id: token.id }));
        // The answer to the first was lost.
        assert_eq!(book.redeem(token.id, &token.secret, KEY, NOW), Ok(first), "the same member");
        let late = book.redeem(token.id, &token.secret, KEY, later(AGAIN_FOR));
        assert_eq!(late, Err(RedeemError::Used { id: token.id }));
        let mut book = TokenBook::open(&desk.path, TokenBookLimits::default()).unwrap();
        book.forget_bearers().unwrap();
        let mut book = TokenBook::open(&desk.path, TokenBookLimits::default()).unwrap();
        let after = book.redeem(token.id, &token.secret, KEY, NOW);
        assert_eq!(after, Err(RedeemError::Used { id: token.id }), "something was revoked");
        let short = book.create(north(), KeyHash([1; 32]), NOW, AGAIN_FOR / 2).unwrap();
        redeem(&mut book, &short, NOW).unwrap();
        assert_eq!(
            redeem(&mut book, &short, later(AGAIN_FOR / 2)),
            Err(RedeemError::Expired { id: short.id })
        );
    }

    #[test]
    fn token_refused_says_which_of_four_reasons_it_is() {
        let mut desk = desk(TokenBookLimits::default());
        let token = create(&mut desk.book);
        let id = token.id;
        let unknown = TokenId(id.0 ^ 1);
        let wrong = TokenSecret([0; 32]);
        let nobodys = JoinToken { id: unknown, ..token.clone() };
        let mistyped = JoinToken { secret: wrong, ..token.clone() };
        assert_eq!(redeem(&mut desk.book, &nobodys, NOW), Err(RedeemError::Unknown { id: unknown }));
        assert_eq!(redeem(&mut desk.book, &mistyped, NOW), Err(RedeemError::WrongSecret { id }));
        assert_eq!(redeem(&mut desk.book, &token, later(HOUR)), Err(RedeemError::Expired { id }));
        assert_eq!(redeem(&mut desk.book, &token, NOW), Ok(north()), "still open after all that");
    }

    #[test]
    fn token_whose_use_cannot_be_written_down_is_refused_and_stays_refused() {
        let mut desk = desk(TokenBookLimits::default());
        let token = create(&mut desk.book);
        let elsewhere = desk.path.with_file_name("gone").join("tokens.json");
        desk.book.path = elsewhere;
        let first = redeem(&mut desk.book, &token, NOW);
        assert!(matches!(first, Err(RedeemError::NotRecorded { .. })), "{first:?}");
        desk.book.path.clone_from(&desk.path);
        let second = redeem(&mut desk.book, &token, NOW);
        assert_eq!(second, Err(RedeemError::Used { id: token.id }));
    }

    #[test]
    fn book_with_many_tokens_is_bounded_and_forgets_the_oldest_closed_ones_first() {
        let limits = TokenBookLimits { live_max: 3, closed_max: 2, remember_for: 10 * HOUR };
        let mut desk = desk(limits);
        let book = &mut desk.book;
        let tokens: Vec<JoinToken> = (0..3).map(|_| create(book)).collect();
        assert!(matches!(
            book.create(north(), KeyHash([1; 32]), NOW, HOUR),
            Err(TokenBookError::Full { live_max: 3 })
        ));
        for (at, token) in tokens.iter().enumerate() {
            // Long after its expiry nothing is known of a token; all these are closed within the hour.
            let now = WallTime(NOW.0 + at as u64);
            redeem(book, token, now).unwrap();
        }
        create(book);
        assert_eq!(book.entries.len(), 3, "two closed ones and the open one");
        assert_eq!(book.live(NOW).count(), 1);
        let now = later(11 * HOUR);
        let last = &tokens[2];
        assert_eq!(
            redeem(book, last, now),
            Err(RedeemError::Unknown { id: last.id }),
            "forgotten ten hours after it would have expired"
        );
    }

    #[test]
    fn token_revoked_is_closed_and_a_second_time_there_is_nothing_to_close() {
        let mut desk = desk(TokenBookLimits::default());
        let token = create(&mut desk.book);
        assert!(desk.book.revoke(token.id, NOW).unwrap());
        assert!(!desk.book.revoke(token.id, NOW).unwrap());
        let mut book = TokenBook::open(&desk.path, TokenBookLimits::default()).unwrap();
        assert_eq!(redeem(&mut book, &token, NOW), Err(RedeemError::Used { id: token.id }));
    }

    #[test]
    fn book_file_holds_no_secret_and_garbage_in_it_is_refused_by_name() {
        let mut desk = desk(TokenBookLimits::default());
        let token = create(&mut desk.book);
        let content = std::fs::read(&desk.path).unwrap();
        let secret = serde_json::to_vec(&token.secret.0).unwrap();
        assert!(!content.windows(secret.len()).any(|window| window == secret));
        for bad in [&b"{}"[..], b"", b"{\"format\":3,\"tokens\":{}}", b"{\"format\":1,\"tokens\":{\"x\":1}}"]
        {
            files::write_private(&desk.path, bad).unwrap();
            let error = TokenBook::open(&desk.path, TokenBookLimits::default()).unwrap_err();
            assert!(error.to_string().contains("tokens.json"), "{error}");
        }
    }
}
