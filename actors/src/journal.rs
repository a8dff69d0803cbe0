//! Journals: what must survive a crash, on disk before it is answered.
//!
//! A file begins with a header {magic, format, writer}. Then follow batches {length, CRC-32, payload}, one per call of
//! [`Journal::append`], each synced before the call returns. At most one batch can be torn by a crash, and only at
//! the end: it is cut off when the file is opened. Anything else that does not check is corruption: the file is left
//! untouched and opening fails, because going on would break promises.
//!
//! The payload of a batch is a sequence of [`wire`] frames, so records are read with the same size limits and the
//! same care as messages from strangers.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use codeco_protocol::wire::{self, ENVELOPE_LEN, WireError, WireMessage};

const MAGIC: &[u8; 8] = b"CODECOJ\0";
/// Format this version writes. It reads this one and the one before.
pub const FORMAT: u16 = 1;
const FORMAT_OLDEST_READ: u16 = 1;
const WRITER_LEN: usize = 22;
const HEADER_LEN: usize = 8 + 2 + WRITER_LEN;
/// Longest batch, in bytes.
const BATCH_LEN_MAX: usize = 16 << 20;
/// Largest journal that is opened, in bytes.
pub const JOURNAL_LEN_MAX: u64 = 1 << 30;
/// A journal is compacted once it is this long and most of it is history.
const COMPACT_FROM: u64 = 1 << 20;

/// Why a journal could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused. After a failed write the journal takes no more records: what is on disk is unknown
    /// until it is opened again.
    #[error("journal {path}: cannot {action}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Not a journal, or of a version this one cannot read. The file was left untouched.
    #[error(
        "journal {path}: found {found}, expected a CODECO journal of format {FORMAT_OLDEST_READ} to {FORMAT}; \
         it was left untouched"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What its header says.
        found: String,
    },
    /// A record does not check. The file was left untouched.
    #[error(
        "journal {path}: corrupt at byte {at}: {detail}; it was left untouched. Restore the file, or move it away \
         to start a new life of this member without its promises"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What does not check.
        detail: String,
    },
    /// A record is too long. Nothing was written.
    #[error("journal {path}: {source}; nothing was written")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: WireError,
    },
    /// An earlier write failed. Nothing was written.
    #[error("journal {path}: an earlier write failed; restart the process to read what is on disk")]
    Broken {
        /// The file.
        path: PathBuf,
    },
}

/// A journal of records of one type.
#[derive(Debug)]
pub struct Journal<R> {
    path: PathBuf,
    file: File,
    len: u64,
    compacted_len: u64,
    broken: bool,
    records: PhantomData<fn(R)>,
}

/// What opening found.
#[derive(Debug)]
pub struct Opened<R> {
    /// The journal, ready to append.
    pub journal: Journal<R>,
    /// Its records, in order.
    pub records: Vec<R>,
    /// Bytes of a torn last batch that were cut off.
    pub torn: u64,
}

impl<R: WireMessage> Journal<R> {
    /// Opens or creates the journal at `path`; `writer` is noted in a new file's header.
    ///
    /// # Errors
    /// [`JournalError`]; an existing file is left as it was.
    pub fn open(path: &Path, writer: &str) -> Result<Opened<R>, JournalError> {
        let io = |action| {
            let path = path.to_owned();
            move |source| JournalError::Io { path, action, source }
        };
        let temporary = path.with_extension("new");
        if temporary.exists() {
            // A compaction that did not reach its rename: the old file still holds everything.
            std::fs::remove_file(&temporary).map_err(io("remove an unfinished compaction"))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io("open"))?;
        let len = file.metadata().map_err(io("read the length"))?.len();
        if len > JOURNAL_LEN_MAX {
            let found = format!("{len} bytes, more than {JOURNAL_LEN_MAX}");
            return Err(JournalError::Format { path: path.to_owned(), found });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read"))?;
        if bytes.len() < HEADER_LEN && is_prefix_of_header(&bytes) {
            // Empty, or torn while it was created: nothing was promised yet.
            file.set_len(0).map_err(io("truncate"))?;
            file.seek(SeekFrom::Start(0)).map_err(io("seek"))?;
            file.write_all(&header(writer)).map_err(io("write"))?;
            file.sync_all().map_err(io("sync"))?;
            sync_folder(path).map_err(io("sync the folder"))?;
            let journal = Self::at(path, file, HEADER_LEN as u64);
            return Ok(Opened { journal, records: Vec::new(), torn: bytes.len() as u64 });
        }
        let (records, good) = read(path, &bytes)?;
        let torn = len - good;
        if torn > 0 {
            file.set_len(good).map_err(io("cut off a torn record"))?;
            file.sync_all().map_err(io("sync"))?;
        }
        file.seek(SeekFrom::Start(good)).map_err(io("seek"))?;
        Ok(Opened { journal: Self::at(path, file, good), records, torn })
    }

    fn at(path: &Path, file: File, len: u64) -> Self {
        Self {
            path: path.to_owned(),
            file,
            len,
            compacted_len: HEADER_LEN as u64,
            broken: false,
            records: PhantomData,
        }
    }

    /// Appends `records` as one batch and syncs it. When this returns, they survive a crash.
    ///
    /// # Errors
    /// [`JournalError`]; after [`JournalError::Io`] the journal takes no more records.
    pub fn append(&mut self, records: &[R]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        if self.broken {
            return Err(JournalError::Broken { path: self.path.clone() });
        }
        let batch = self.encode(records)?;
        self.broken = true;
        self.file.write_all(&batch).map_err(|source| self.io("append", source))?;
        self.file.sync_data().map_err(|source| self.io("sync", source))?;
        self.broken = false;
        self.len += batch.len() as u64;
        Ok(())
    }

    /// Whether most of the file is history, so that [`Journal::compact`] is worth it.
    #[must_use]
    pub fn wants_compaction(&self) -> bool {
        self.len > COMPACT_FROM && self.len > 4 * self.compacted_len
    }

    /// Replaces everything by `records`, which must stand for the same state. The old file stays until the new one is
    /// complete and synced.
    ///
    /// # Errors
    /// [`JournalError`]; the old file is still in use then.
    pub fn compact(&mut self, records: &[R], writer: &str) -> Result<(), JournalError> {
        let temporary = self.path.with_extension("new");
        let mut bytes = header(writer).to_vec();
        for batch in records.chunks(1_024) {
            bytes.extend(self.encode(batch)?);
        }
        let mut file = File::create(&temporary).map_err(|source| self.io("create", source))?;
        file.write_all(&bytes).map_err(|source| self.io("write", source))?;
        file.sync_all().map_err(|source| self.io("sync", source))?;
        std::fs::rename(&temporary, &self.path).map_err(|source| self.io("rename", source))?;
        sync_folder(&self.path).map_err(|source| self.io("sync the folder", source))?;
        self.file = file;
        self.len = bytes.len() as u64;
        self.compacted_len = self.len;
        Ok(())
    }

    fn encode(&self, records: &[R]) -> Result<Vec<u8>, JournalError> {
        let mut payload = Vec::new();
        for record in records {
            let frame = wire::encode(record)
                .map_err(|source| JournalError::Record { path: self.path.clone(), source })?;
            payload.extend(frame);
        }
        let len = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= BATCH_LEN_MAX);
        let Some(len) = len else {
            let source = WireError::TooLong { kind: R::KIND, len: payload.len(), max: BATCH_LEN_MAX };
            return Err(JournalError::Record { path: self.path.clone(), source });
        };
        let mut batch = Vec::with_capacity(8 + payload.len());
        batch.extend_from_slice(&len.to_le_bytes());
        batch.extend_from_slice(&crc32(&payload).to_le_bytes());
        batch.extend_from_slice(&payload);
        Ok(batch)
    }

    fn io(&self, action: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), action, source }
    }
}

fn header(writer: &str) -> [u8; HEADER_LEN] {
    let mut bytes = [0_u8; HEADER_LEN];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
    let writer = writer.as_bytes();
    let len = writer.len().min(WRITER_LEN);
    bytes[10..10 + len].copy_from_slice(&writer[..len]);
    bytes
}

fn is_prefix_of_header(bytes: &[u8]) -> bool {
    let known = bytes.len().min(8);
    bytes[..known] == MAGIC[..known]
}

fn check_header(path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    let format = |found| JournalError::Format { path: path.to_owned(), found };
    if bytes.len() < HEADER_LEN || &bytes[..8] != MAGIC {
        return Err(format("another kind of file".into()));
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if !(FORMAT_OLDEST_READ..=FORMAT).contains(&version) {
        return Err(format(format!("format {version}")));
    }
    Ok(())
}

/// The checksum of a batch.
#[doc(hidden)]
#[must_use]
pub fn crc32(payload: &[u8]) -> u32 {
    crc32fast::hash(payload)
}

/// Reads a whole journal; returns the records and the length of what checks.
pub(crate) fn read<R: WireMessage>(path: &Path, bytes: &[u8]) -> Result<(Vec<R>, u64), JournalError> {
    check_header(path, bytes)?;
    read_batches(path, bytes)
}

/// Reads all batches; returns the records and the length of what checks.
fn read_batches<R: WireMessage>(path: &Path, bytes: &[u8]) -> Result<(Vec<R>, u64), JournalError> {
    let mut records = Vec::new();
    let mut at = HEADER_LEN;
    while at < bytes.len() {
        let corrupt = |detail: String| JournalError::Corrupt { path: path.to_owned(), at: at as u64, detail };
        let rest = &bytes[at..];
        let Some((head, body)) = rest.split_at_checked(8) else { break };
        let word =
            |from: usize| u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
        let len = word(0) as usize;
        if len == 0 && rest.iter().all(|byte| *byte == 0) {
            // The file grew, but its content never reached the disk.
            break;
        }
        if len > BATCH_LEN_MAX || len == 0 {
            return Err(corrupt(format!("a batch of {len} bytes")));
        }
        let Some(payload) = body.get(..len) else { break };
        if crc32(payload) != word(4) {
            if body.len() == len {
                break;
            }
            return Err(corrupt("a checksum does not match, and further records follow".into()));
        }
        read_frames(payload, &mut records).map_err(|e| corrupt(e.to_string()))?;
        at += 8 + len;
    }
    Ok((records, at as u64))
}

fn read_frames<R: WireMessage>(mut payload: &[u8], records: &mut Vec<R>) -> Result<(), WireError> {
    while !payload.is_empty() {
        let cut = WireError::Truncated { found: payload.len(), expected: ENVELOPE_LEN };
        let Some(envelope) = payload.get(..ENVELOPE_LEN) else { return Err(cut) };
        let len = u32::from_le_bytes([envelope[4], envelope[5], envelope[6], envelope[7]]) as usize;
        let end = ENVELOPE_LEN.saturating_add(len);
        let Some(frame) = payload.get(..end) else {
            return Err(WireError::Truncated { found: payload.len(), expected: end });
        };
        records.push(wire::decode(frame)?);
        payload = &payload[end..];
    }
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
