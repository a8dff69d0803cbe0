//! A ring of JSON lines on disk: two segments, the older one dropped when the newer one is full.
//!
//! Not a journal: nothing depends on it, so it is not synced, a torn line is skipped, and an error only costs history.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest line read back.
const LINE_MAX: u64 = 256 << 10;

/// See the module.
#[derive(Debug)]
pub struct RingFile {
    path: PathBuf,
    file: Option<File>,
    len: u64,
    segment_max: u64,
}

impl RingFile {
    /// Opens the ring at `path`, of two segments of at most `segment_max` bytes, and reads what it holds.
    #[must_use]
    pub fn open<T: DeserializeOwned>(path: &Path, segment_max: u64) -> (Self, Vec<T>) {
        let mut items = Vec::new();
        for segment in [older(path), path.to_owned()] {
            read(&segment, &mut items);
        }
        let file = OpenOptions::new().create(true).append(true).open(path).ok();
        let len = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
        (Self { path: path.to_owned(), file, len, segment_max }, items)
    }

    /// Appends one item. Errors cost history only, and are logged.
    pub fn push<T: Serialize>(&mut self, item: &T) {
        let Ok(mut line) = serde_json::to_vec(item) else { return };
        line.push(b'\n');
        if self.len + line.len() as u64 > self.segment_max {
            self.turn();
        }
        let Some(file) = &mut self.file else { return };
        match file.write_all(&line) {
            Ok(()) => self.len += line.len() as u64,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "history is not kept on disk any more");
                self.file = None;
            }
        }
    }

    fn turn(&mut self) {
        if std::fs::rename(&self.path, older(&self.path)).is_ok() {
            self.file = File::create(&self.path).ok();
            self.len = 0;
        }
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("old")
}

fn read<T: DeserializeOwned>(path: &Path, items: &mut Vec<T>) {
    let Ok(file) = File::open(path) else { return };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        match std::io::Read::take(&mut reader, LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Ok(item) = serde_json::from_slice(&line) {
            items.push(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_keeps_the_newest_lines_and_skips_a_torn_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        let (mut ring, old) = RingFile::open::<u32>(&path, 100);
        assert!(old.is_empty());
        for n in 1_000..1_100_u32 {
            ring.push(&n);
        }
        drop(ring);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"10").unwrap();
        let (_, kept) = RingFile::open::<u32>(&path, 100);
        assert_eq!(*kept.iter().rev().nth(1).unwrap(), 1_099, "{kept:?}");
        assert!(kept.len() <= 42, "two segments of twenty lines: {}", kept.len());
    }
}
