//! History and model on disk. Neither is a promise: nothing is synced, what the kernel has survives kill -9, and an error
//! costs advice, never a decision.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use codeco_protocol::gossip::ModelFact;
use codeco_protocol::wire::{self, WireMessage as _};

use super::forecaster::Forecaster;
use super::history::{History, RINGS_LEN, Write};

const MAGIC: &[u8; 8] = b"cdcoLD01";
/// Magic and length of a step.
const HEADER_LEN: usize = 12;

/// A history and the file it lives in.
#[derive(Debug)]
pub struct HistoryFile {
    file: File,
}

impl HistoryFile {
    /// Opens or makes the file. One of another step length, or of another kind, begins anew.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(path: &Path, step_ms: u32) -> std::io::Result<(Self, History)> {
        let mut file = OpenOptions::new().create(true).read(true).write(true).truncate(false).open(path)?;
        let mut bytes = Vec::with_capacity(HEADER_LEN + RINGS_LEN);
        (&mut file).take((HEADER_LEN + RINGS_LEN) as u64).read_to_end(&mut bytes)?;
        let header = [&MAGIC[..], &step_ms.to_le_bytes()].concat();
        let history = match bytes.strip_prefix(header.as_slice()) {
            Some(rings) => History::restore(step_ms, rings),
            None => {
                file.set_len(0)?;
                file.write_all_at(&header, 0)?;
                file.set_len((HEADER_LEN + RINGS_LEN) as u64)?;
                History::new(step_ms)
            }
        };
        Ok((Self { file }, history))
    }

    /// Writes slots.
    ///
    /// # Errors
    /// What the system said; the history in memory goes on.
    pub fn write(&self, writes: &[Write]) -> std::io::Result<()> {
        writes
            .iter()
            .try_for_each(|write| self.file.write_all_at(&write.bytes, HEADER_LEN as u64 + write.offset))
    }
}

/// Keeps a model for the time when no hub can be reached.
///
/// # Errors
/// What went wrong, for people; what was kept before stays.
pub fn keep_model(path: &Path, fact: &ModelFact) -> Result<(), String> {
    let bytes = wire::encode(fact).map_err(|e| e.to_string())?;
    let draft = path.with_extension("new");
    let written = File::create(&draft).and_then(|mut file| file.write_all(&bytes));
    written.and_then(|()| std::fs::rename(&draft, path)).map_err(|e| format!("{}: {e}", path.display()))
}

/// The model kept, if there is one that passes every check.
///
/// # Errors
/// Why there is a file, but no model.
pub fn kept_model(path: &Path) -> Result<Option<ModelFact>, String> {
    let Ok(file) = File::open(path) else { return Ok(None) };
    let refused = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let mut bytes = Vec::new();
    let limit = (ModelFact::MAX_LEN + wire::ENVELOPE_LEN + 1) as u64;
    file.take(limit).read_to_end(&mut bytes).map_err(|e| refused(&e))?;
    let fact: ModelFact = wire::decode(&bytes).map_err(|e| refused(&e))?;
    Forecaster::decode(&fact).map_err(|e| refused(&e))?;
    Ok(Some(fact))
}

#[cfg(test)]
mod tests {
    use codeco_protocol::units::WallTime;

    use super::*;
    use crate::pdlc::forecaster::WEIGHTS;
    use crate::pdlc::history::Measured;

    #[test]
    fn history_file_is_of_one_size_survives_reopening_and_begins_anew_for_another_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let (file, mut history) = HistoryFile::open(&path, 600).unwrap();
        for at in 0..3_000_u64 {
            let writes = history.add(WallTime(at * 10), Measured { cpu: 700, ..Measured::default() });
            file.write(&writes).unwrap();
        }
        // Nothing is closed or synced, as after kill -9.
        let (_, again) = HistoryFile::open(&path, 600).unwrap();
        assert_eq!(again.step(40).map(|m| m.cpu), Some(700));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (HEADER_LEN + RINGS_LEN) as u64);
        let (_, other) = HistoryFile::open(&path, 1_200).unwrap();
        assert_eq!(other, History::new(1_200));
    }

    #[test]
    fn model_kept_is_read_back_and_a_damaged_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        assert_eq!(kept_model(&path), Ok(None));
        let (artefact, checksum) = Forecaster::new(vec![0.5; WEIGHTS]).unwrap().encode().unwrap();
        let fact = ModelFact {
            version: 3,
            artefact,
            checksum,
            at: WallTime(1),
            windows: 10,
            nodes: 2,
            step_ms: 600,
            losses: vec![("model".into(), 5)],
            doing: "waits".into(),
        };
        keep_model(&path, &fact).unwrap();
        assert_eq!(kept_model(&path), Ok(Some(fact)));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4_000] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(kept_model(&path).unwrap_err().contains("checksum"));
    }
}
