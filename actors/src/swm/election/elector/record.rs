//! What an elector writes down, and how records travel: one by one, or all of them in pages.

use bincode::{Decode, Encode};
use codeco_protocol::election::{PAGE_BYTES_MAX, PAGES_MAX, Position};
use codeco_protocol::ids::Incarnation;
use codeco_protocol::token::Term;
use codeco_protocol::wire::{self, ENVELOPE_LEN, WireError, WireMessage};

use super::super::electorate::{Electorate, Voter};
use crate::swm::lead::LeadRecord;

/// What is kept on a majority of the voters, in order. Variants are append-only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Entry {
    /// A record of the lead.
    Lead(LeadRecord),
    /// Who votes from now on.
    Electorate(Electorate),
}

/// One record of an elector's journal. Variants are append-only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ElectionRecord {
    /// A life of this journal begins. The first record.
    Life(Incarnation),
    /// The vote was given for this term.
    Promised(Term),
    /// Part of a snapshot.
    Page {
        /// How far its records go.
        at: Position,
        /// Which page, from zero.
        number: u32,
        /// Entries, encoded one after the other and cut anywhere.
        bytes: Vec<u8>,
    },
    /// All pages of that snapshot are there: they replace what was known.
    Installed {
        /// How far its records go.
        at: Position,
        /// How many pages it has.
        pages: u32,
    },
    /// This member leads under a new term: what it knows is the snapshot that opens it.
    Opened(Term),
    /// The next entry.
    Appended {
        /// Where it goes.
        at: Position,
        /// The entry.
        entry: Entry,
    },
}

// Append only; never reuse a number.
impl WireMessage for ElectionRecord {
    const KIND: u16 = 35;
    const MAX_LEN: usize = 513 << 10;
}

impl WireMessage for Entry {
    const KIND: u16 = 36;
    const MAX_LEN: usize = 512 << 10;
}

/// The journal of a member that founds the electorate of its cluster: it votes alone. `records` are those of a lead
/// before it, if there was one.
#[must_use]
pub fn founding(voter: Voter, records: Vec<LeadRecord>) -> Vec<ElectionRecord> {
    let mut journal = vec![ElectionRecord::Life(voter.incarnation)];
    journal.extend(snapshot_records(Position::default(), &Electorate::of_one(voter), records));
    journal
}

/// A whole state as records of a journal.
pub(super) fn snapshot_records(
    at: Position,
    electorate: &Electorate,
    records: Vec<LeadRecord>,
) -> Vec<ElectionRecord> {
    let pages = to_pages(electorate, records);
    let count = u32::try_from(pages.len()).unwrap_or(u32::MAX);
    let mut journal: Vec<ElectionRecord> =
        (0..).zip(pages).map(|(number, bytes)| ElectionRecord::Page { at, number, bytes }).collect();
    journal.push(ElectionRecord::Installed { at, pages: count });
    journal
}

/// Cuts electorate and records into pages.
pub(super) fn to_pages(electorate: &Electorate, records: Vec<LeadRecord>) -> Vec<Vec<u8>> {
    let entries =
        std::iter::once(Entry::Electorate(electorate.clone())).chain(records.into_iter().map(Entry::Lead));
    // Records that are in a state were within the limit when they were written.
    let bytes: Vec<u8> = entries.filter_map(|entry| wire::encode(&entry).ok()).flatten().collect();
    bytes.chunks(PAGE_BYTES_MAX).map(<[u8]>::to_vec).collect()
}

/// Why a snapshot cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// An entry does not decode.
    #[error("an entry of a snapshot: {0}")]
    Wire(String),
    /// The electorate is missing, or could not have come about.
    #[error("a snapshot begins with {0}, expected an electorate of one to five members, each in one life")]
    Electorate(&'static str),
    /// Too large.
    #[error("a snapshot of {0} pages, expected at most {PAGES_MAX}")]
    TooLong(usize),
}

/// Puts pages together again.
pub(super) fn from_pages(pages: &[Vec<u8>]) -> Result<(Electorate, Vec<LeadRecord>), PageError> {
    if pages.len() > PAGES_MAX as usize {
        return Err(PageError::TooLong(pages.len()));
    }
    let bytes = pages.concat();
    let mut rest = bytes.as_slice();
    let (mut electorate, mut records) = (None, Vec::new());
    while !rest.is_empty() {
        match next_entry(&mut rest).map_err(|e| PageError::Wire(e.to_string()))? {
            Entry::Electorate(found) if electorate.is_none() && records.is_empty() => {
                electorate = Some(found);
            }
            Entry::Electorate(_) => return Err(PageError::Electorate("one electorate and has another")),
            Entry::Lead(record) => records.push(record),
        }
    }
    match electorate {
        Some(electorate) if electorate.is_sound() => Ok((electorate, records)),
        Some(_) => Err(PageError::Electorate("an impossible electorate")),
        None => Err(PageError::Electorate("no electorate")),
    }
}

fn next_entry(rest: &mut &[u8]) -> Result<Entry, WireError> {
    let cut = || WireError::Truncated { found: rest.len(), expected: ENVELOPE_LEN };
    let envelope = rest.get(..ENVELOPE_LEN).ok_or_else(cut)?;
    let len = u32::from_le_bytes([envelope[4], envelope[5], envelope[6], envelope[7]]) as usize;
    let end = ENVELOPE_LEN.saturating_add(len);
    let Some(frame) = rest.get(..end) else {
        return Err(WireError::Truncated { found: rest.len(), expected: end });
    };
    let entry = wire::decode(frame)?;
    *rest = &rest[end..];
    Ok(entry)
}

/// What a journal says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// The journal's life; `None` if it is empty.
    pub life: Option<Incarnation>,
    /// The latest term voted for.
    pub promised: Term,
    /// How far the records go.
    pub last: Position,
    /// Who votes; `None` for a member that was never told.
    pub electorate: Option<Electorate>,
    /// Records of leads, in order.
    pub records: Vec<LeadRecord>,
}

impl Written {
    /// Reads a journal. A snapshot that was not complete counts for nothing.
    ///
    /// # Errors
    /// [`PageError`]: a snapshot that was taken as good does not read.
    pub fn read(journal: &[ElectionRecord]) -> Result<Self, PageError> {
        let mut written = Self::default();
        let mut coming: Option<(Position, Vec<Vec<u8>>)> = None;
        for record in journal {
            match record {
                ElectionRecord::Life(life) => written.life = Some(*life),
                ElectionRecord::Promised(term) => written.promised = *term,
                ElectionRecord::Page { at, number, bytes } => match &mut coming {
                    Some((known, pages)) if known == at && pages.len() == *number as usize => {
                        pages.push(bytes.clone());
                    }
                    _ if *number == 0 => coming = Some((*at, vec![bytes.clone()])),
                    _ => coming = None,
                },
                ElectionRecord::Installed { at, pages } => {
                    let complete =
                        |(known, have): &(Position, Vec<_>)| known == at && have.len() == *pages as usize;
                    if let Some((_, pages)) = coming.take().filter(complete) {
                        let (electorate, records) = from_pages(&pages)?;
                        written.last = *at;
                        written.electorate = Some(electorate);
                        written.records = records;
                    }
                }
                ElectionRecord::Opened(term) => {
                    written.promised = written.promised.max(*term);
                    written.last = Position { term: *term, sequence: 0 };
                }
                ElectionRecord::Appended { at, entry } => {
                    written.last = *at;
                    match entry {
                        Entry::Lead(record) => written.records.push(record.clone()),
                        Entry::Electorate(electorate) => written.electorate = Some(electorate.clone()),
                    }
                }
            }
        }
        Ok(written)
    }
}
