//! API tokens: `codeco-api.<role>.<32 random bytes>`. The hub keeps only their hashes.
//!
//! A token has 256 bits of randomness, so a plain SHA-256 is enough: nothing can be guessed from it. The role in its
//! text is for people; the role that counts is in the hub's file.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use codeco_protocol::gossip::ApiTokenFact;
use codeco_protocol::identity::{FileError, read_private, write_private};
use codeco_protocol::ids::MemberId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::guard::ApiRole;

/// Most tokens of one hub.
pub const TOKENS_MAX: usize = 256;
/// Most hubs whose tokens a node knows.
const HUBS_MAX: usize = 16;
/// Form of the file. A newer form is refused, so that an older program never drops what it does not know.
const FORMAT: u32 = 1;
/// Largest file read, in bytes: far more than [`TOKENS_MAX`] tokens take.
const FILE_LEN_MAX: u64 = 4 << 20;
/// Longest name of a token.
const NAME_LEN_MAX: usize = 63;
/// Longest text that is looked up; every token is shorter.
const TEXT_LEN_MAX: usize = 128;

/// Why a token could not be made or the file not be read. No token was given out.
#[derive(Debug, thiserror::Error)]
pub enum ApiTokensError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is something else.
    #[error("{path} is not a file of API tokens of format {FORMAT}: {detail}", path = path.display())]
    NotTokens {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A token of this name exists.
    #[error("there is an API token {name:?} already: take another name, or replace it")]
    Exists {
        /// Its name.
        name: String,
    },
    /// No token of this name exists.
    #[error("there is no API token {name:?}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The name is empty, too long or has characters other than printable ASCII.
    #[error("{name:?} cannot name an API token: expected 1 to {NAME_LEN_MAX} printable ASCII characters")]
    BadName {
        /// The name, cut to 80 characters.
        name: String,
    },
    /// This member gives out none.
    #[error("API tokens are made and revoked at hubs; a node only admits those that it has heard of")]
    NotHere,
    /// There are too many.
    #[error("there are {TOKENS_MAX} API tokens already: revoke one")]
    TooMany,
    /// The system has no randomness.
    #[error("cannot make an API token: {detail}")]
    Random {
        /// What the system said.
        detail: String,
    },
}

/// Whose a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// Name it was given.
    pub name: String,
    /// What it may do.
    pub role: ApiRole,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    role: ApiRole,
    /// Hash of the whole text, base64url.
    sha256: String,
    /// The hub that gave it out, at a member that gives out none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hub: Option<MemberId>,
    #[serde(skip)]
    hash: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    tokens: Vec<Entry>,
}

/// The API tokens of a hub.
#[derive(Debug)]
pub struct ApiTokens {
    path: PathBuf,
    /// Whether tokens are given out here, and not heard of from hubs.
    own: bool,
    entries: RwLock<Vec<Entry>>,
    /// Held while the file is written, so that checks never wait for the disk.
    writing: Mutex<()>,
}

impl ApiTokens {
    /// Reads the file at `path`; there need be none yet.
    ///
    /// # Errors
    /// [`ApiTokensError::File`] also if others may read it, [`ApiTokensError::NotTokens`].
    pub fn open(path: &Path) -> Result<Self, ApiTokensError> {
        let entries = match read_private(path, FILE_LEN_MAX) {
            Ok(content) => parse(&content)
                .map_err(|detail| ApiTokensError::NotTokens { path: path.to_owned(), detail })?,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { path: path.to_owned(), own: true, entries: RwLock::new(entries), writing: Mutex::new(()) })
    }

    /// Reads the file of a member that gives out no tokens, and admits those that hubs have given out: it must know
    /// them when no hub can be reached.
    ///
    /// # Errors
    /// As [`ApiTokens::open`].
    pub fn open_heard(path: &Path) -> Result<Self, ApiTokensError> {
        Ok(Self { own: false, ..Self::open(path)? })
    }

    /// What others are to know of the tokens given out here.
    #[must_use]
    pub fn facts(&self) -> Vec<ApiTokenFact> {
        let fact = |entry: Entry| ApiTokenFact {
            name: entry.name,
            role: entry.role.word().to_owned(),
            sha256: entry.hash,
        };
        self.entries().into_iter().filter(|entry| entry.hub.is_none()).map(fact).collect()
    }

    /// Takes what a hub says of its tokens: all of them, so those it leaves out stop to work. Kept on disk. What cannot
    /// be a token is left out.
    ///
    /// # Errors
    /// [`ApiTokensError::File`], and then all is as before.
    pub fn heard(&self, hub: MemberId, facts: &[ApiTokenFact]) -> Result<(), ApiTokensError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.entries();
        let (own, mut entries): (Vec<Entry>, Vec<Entry>) =
            before.iter().cloned().partition(|entry| entry.hub == Some(hub));
        let hubs: std::collections::BTreeSet<_> = entries.iter().map(|entry| entry.hub).collect();
        if own.is_empty() && hubs.len() >= HUBS_MAX {
            return Ok(());
        }
        entries.extend(facts.iter().take(TOKENS_MAX).filter_map(|fact| {
            let role = fact.role.parse().ok()?;
            let sha256 = URL_SAFE_NO_PAD.encode(fact.sha256);
            let (name, hash) = (fact.name.clone(), fact.sha256);
            is_name(&name).then_some(Entry { name, role, sha256, hub: Some(hub), hash })
        }));
        let same =
            |a: &Entry, b: &Entry| (&a.name, a.role, a.hash, a.hub) == (&b.name, b.role, b.hash, b.hub);
        let known = |entry: &Entry| before.iter().any(|old| same(old, entry));
        if entries.len() == before.len() && entries.iter().all(known) {
            return Ok(());
        }
        self.save(entries)
    }

    /// A new token, whose text is told this once. It is on disk when this returns.
    ///
    /// # Errors
    /// [`ApiTokensError`]; no token was made.
    pub fn create(&self, name: &str, role: ApiRole) -> Result<String, ApiTokensError> {
        self.add(name, role, false)
    }

    /// Like [`ApiTokens::create`], but a token of this name stops to work.
    ///
    /// # Errors
    /// [`ApiTokensError`]; no token was made, and the old one still works.
    pub fn replace(&self, name: &str, role: ApiRole) -> Result<String, ApiTokensError> {
        self.add(name, role, true)
    }

    /// Ends a token.
    ///
    /// # Errors
    /// [`ApiTokensError::Unknown`]; [`ApiTokensError::File`], and then the token still works.
    pub fn revoke(&self, name: &str) -> Result<(), ApiTokensError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = self.entries();
        let before = entries.len();
        entries.retain(|entry| entry.name != name);
        if entries.len() == before {
            return Err(ApiTokensError::Unknown { name: name.chars().take(80).collect() });
        }
        self.save(entries)
    }

    /// Names and roles.
    #[must_use]
    pub fn list(&self) -> Vec<Bearer> {
        self.entries().into_iter().map(|entry| Bearer { name: entry.name, role: entry.role }).collect()
    }

    /// Whose token `text` is. Takes the same time whichever token it is, or none.
    #[must_use]
    pub fn check(&self, text: &str) -> Option<Bearer> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        let hash = hash(text);
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = u32::MAX;
        for (index, entry) in (0..u32::MAX).zip(entries.iter()) {
            let same: Choice = entry.hash.ct_eq(&hash);
            found.conditional_assign(&index, same);
        }
        let entry = entries.get(usize::try_from(found).ok()?)?;
        Some(Bearer { name: entry.name.clone(), role: entry.role })
    }

    fn add(&self, name: &str, role: ApiRole, replace: bool) -> Result<String, ApiTokensError> {
        if !self.own {
            return Err(ApiTokensError::NotHere);
        }
        if !is_name(name) {
            return Err(ApiTokensError::BadName { name: name.chars().take(80).collect() });
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = self.entries();
        if replace {
            entries.retain(|entry| entry.name != name);
        }
        if entries.iter().any(|entry| entry.name == name) {
            return Err(ApiTokensError::Exists { name: name.to_owned() });
        }
        if entries.len() >= TOKENS_MAX {
            return Err(ApiTokensError::TooMany);
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|e| ApiTokensError::Random { detail: e.to_string() })?;
        let text = format!("codeco-api.{role}.{}", URL_SAFE_NO_PAD.encode(secret));
        let hash = hash(&text);
        entries.push(Entry {
            name: name.to_owned(),
            role,
            sha256: URL_SAFE_NO_PAD.encode(hash),
            hub: None,
            hash,
        });
        self.save(entries)?;
        Ok(text)
    }

    fn entries(&self) -> Vec<Entry> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// First on disk, then in force: after a crash no token works that its bearer was told does not.
    fn save(&self, tokens: Vec<Entry>) -> Result<(), ApiTokensError> {
        let content = Content { format: FORMAT, tokens };
        let text = serde_json::to_vec_pretty(&content)
            .map_err(|e| ApiTokensError::NotTokens { path: self.path.clone(), detail: e.to_string() })?;
        write_private(&self.path, &text)?;
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = content.tokens;
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_LEN_MAX && name.chars().all(|c| c.is_ascii_graphic())
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// See [`crate::hostile`]. How many tokens a file of that content holds.
///
/// # Errors
/// What is wrong with it.
#[doc(hidden)]
pub fn api_tokens(content: &[u8]) -> Result<usize, String> {
    parse(content).map(|tokens| tokens.len())
}

fn parse(content: &[u8]) -> Result<Vec<Entry>, String> {
    let mut content: Content = serde_json::from_slice(content).map_err(|e| e.to_string())?;
    if content.format != FORMAT {
        return Err(format!("its format is {}", content.format));
    }
    if content.tokens.len() > TOKENS_MAX * HUBS_MAX {
        let max = TOKENS_MAX * HUBS_MAX;
        return Err(format!("it holds {} tokens, at most {max} are expected", content.tokens.len()));
    }
    for entry in &mut content.tokens {
        let bytes = URL_SAFE_NO_PAD.decode(&entry.sha256).ok().and_then(|bytes| bytes.try_into().ok());
        entry.hash = bytes.ok_or_else(|| format!("the hash of token {:?} is damaged", entry.name))?;
    }
    Ok(content.tokens)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn token_made_is_known_after_a_restart_and_its_text_is_not_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api-tokens.json");
        let tokens = ApiTokens::open(&path).unwrap();
        let viewer = tokens.create("grafana", ApiRole::Viewer).unwrap();
        let admin = tokens.create("alice", ApiRole::Admin).unwrap();
        assert!(viewer.starts_with("codeco-api.viewer."), "{viewer}");
        let content = std::fs::read_to_string(&path).unwrap();
        for text in [&viewer, &admin] {
            assert!(!content.contains(text.rsplit('.').next().unwrap()), "{content}");
        }
        let again = ApiTokens::open(&path).unwrap();
        assert_eq!(again.check(&viewer).unwrap(), Bearer { name: "grafana".into(), role: ApiRole::Viewer });
        assert_eq!(again.check(&admin).unwrap().role, ApiRole::Admin);
    }

    #[test]
    fn token_changed_cut_unknown_or_with_another_role_written_in_it_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = ApiTokens::open(&folder.path().join("t")).unwrap();
        let text = tokens.create("a", ApiRole::Viewer).unwrap();
        let long = "x".repeat(100_000);
        let raised = text.replace("viewer", "admin");
        for wrong in ["", "codeco-api.viewer.", &text[..text.len() - 1], &raised, &long] {
            assert_eq!(tokens.check(wrong), None, "{wrong}");
        }
        assert!(tokens.check(&text).is_some());
    }

    #[test]
    fn token_replaced_or_revoked_stops_to_work_and_a_name_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = ApiTokens::open(&folder.path().join("t")).unwrap();
        let old = tokens.create("dev", ApiRole::Admin).unwrap();
        assert!(matches!(tokens.create("dev", ApiRole::Admin), Err(ApiTokensError::Exists { .. })));
        let new = tokens.replace("dev", ApiRole::Admin).unwrap();
        assert!(tokens.check(&old).is_none() && tokens.check(&new).is_some());
        tokens.revoke("dev").unwrap();
        assert!(tokens.check(&new).is_none() && tokens.list().is_empty());
        assert!(matches!(tokens.revoke("dev"), Err(ApiTokensError::Unknown { .. })));
        assert!(matches!(tokens.create("a\nb", ApiRole::Admin), Err(ApiTokensError::BadName { .. })));
    }

    #[test]
    fn token_of_a_hub_works_at_a_node_that_has_heard_of_it_until_the_hub_leaves_it_out() {
        let folder = tempfile::tempdir().unwrap();
        let hub = ApiTokens::open(&folder.path().join("hub")).unwrap();
        let path = folder.path().join("node");
        let node = ApiTokens::open_heard(&path).unwrap();
        let (admin, viewer) =
            (hub.create("alice", ApiRole::Admin).unwrap(), hub.create("bob", ApiRole::Viewer).unwrap());
        assert_eq!(node.check(&admin), None, "nobody has told");
        node.heard(MemberId(1), &hub.facts()).unwrap();
        let node = ApiTokens::open_heard(&path).unwrap();
        assert_eq!(node.check(&admin).unwrap(), Bearer { name: "alice".into(), role: ApiRole::Admin });
        assert!(matches!(node.create("eve", ApiRole::Admin), Err(ApiTokensError::NotHere)));
        let raised = viewer.replace("viewer", "admin");
        assert!(node.check(&viewer).is_some() && node.check(&raised).is_none());
        hub.revoke("bob").unwrap();
        node.heard(MemberId(1), &hub.facts()).unwrap();
        node.heard(MemberId(2), &[]).unwrap();
        assert!(node.check(&viewer).is_none() && node.check(&admin).is_some());
        let strange = ApiTokenFact { name: "x".into(), role: "root".into(), sha256: [1; 32] };
        node.heard(MemberId(3), &[strange]).unwrap();
        assert_eq!(node.list().len(), 1);
    }

    #[test]
    fn token_file_that_others_may_read_or_that_is_damaged_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        ApiTokens::open(&path).unwrap().create("a", ApiRole::Viewer).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(ApiTokens::open(&path), Err(ApiTokensError::File(_))));
        for damaged in ["", "{}", r#"{"format":2,"tokens":[]}"#] {
            write_private(&path, damaged.as_bytes()).unwrap();
            assert!(matches!(ApiTokens::open(&path), Err(ApiTokensError::NotTokens { .. })), "{damaged}");
        }
    }
}
