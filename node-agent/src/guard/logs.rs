//! What containers write: two files each, of which the older is thrown away.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use codeco_protocol::ids::{ReplicaId, ServiceName};

/// Size at which a file becomes the older one.
pub(crate) const FILE_LEN_MAX: u64 = 256 * 1024;
/// Log folders kept, those of replicas that run not counted.
const FOLDER_COUNT_MAX: usize = 128;
/// Stack of a copying thread: it has next to nothing on it.
const STACK_LEN: usize = 64 * 1024;
const CHUNK_LEN: usize = 8 * 1024;

/// Name of the folder with a replica's logs.
pub(super) fn folder_name(replica: &ReplicaId) -> String {
    format!("{}.{}-{}", replica.app, replica.service, replica.index)
}

fn logs_folder(state_folder: &Path) -> PathBuf {
    state_folder.join("logs")
}

/// Current and older file; `None` if the name cannot be that of a container.
fn files(state_folder: &Path, replica: &ReplicaId, container: &str) -> Option<(PathBuf, PathBuf)> {
    let container = ServiceName::new(container).ok()?;
    let folder = logs_folder(state_folder).join(folder_name(replica));
    Some((folder.join(format!("{container}.log")), folder.join(format!("{container}.log.1"))))
}

/// The last `len` bytes a container wrote; `None` if there is no log of it.
pub(crate) fn tail(
    state_folder: &Path,
    replica: &ReplicaId,
    container: &str,
    len: usize,
) -> io::Result<Option<Vec<u8>>> {
    let Some((current, older)) = files(state_folder, replica, container) else { return Ok(None) };
    let (Some(mut newest), before) = (tail_of(&current, len)?, tail_of(&older, len)?) else {
        return Ok(None);
    };
    let mut all = before.unwrap_or_default();
    all.append(&mut newest);
    all.drain(..all.len().saturating_sub(len));
    Ok(Some(all))
}

fn tail_of(file: &Path, len: usize) -> io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let len = u64::try_from(len).unwrap_or(u64::MAX).min(FILE_LEN_MAX);
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(len)))?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Copies `from` into the container's log until every writer has closed it, on a thread of its own: disks may be
/// slow, and a guard must not be. `running`: log folders to keep.
pub(super) fn copy_in_background(
    state_folder: &Path,
    replica: &ReplicaId,
    container: &str,
    from: PipeReader,
    running: BTreeSet<String>,
) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "the container's name is no RFC 1123 label");
    let (current, older) = files(state_folder, replica, container).ok_or_else(invalid)?;
    let state_folder = state_folder.to_path_buf();
    let copy = move || {
        prune(&logs_folder(&state_folder), &running);
        Log { current, older, file: None, len: 0 }.copy(from);
    };
    std::thread::Builder::new().name("log".into()).stack_size(STACK_LEN).spawn(copy)?;
    Ok(())
}

struct Log {
    current: PathBuf,
    older: PathBuf,
    file: Option<File>,
    len: u64,
}

impl Log {
    fn copy(mut self, mut from: PipeReader) {
        let mut chunk = vec![0; CHUNK_LEN];
        // The file is there from the start: an empty log is a log.
        let mut told = self.append(&[]).is_err();
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return,
                Ok(len) => {
                    // Output that cannot be kept is dropped: a full disk must not stop the workload.
                    if let Err(error) = self.append(&chunk[..len])
                        && !std::mem::replace(&mut told, true)
                    {
                        say!("{} cannot be written: {error}", self.current.display());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let added = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.file.is_some() && self.len.saturating_add(added) > FILE_LEN_MAX {
            self.file = None;
            fs::rename(&self.current, &self.older)?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                if let Some(folder) = self.current.parent() {
                    fs::create_dir_all(folder)?;
                }
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.current)?;
                self.len = file.metadata()?.len();
                none.insert(file)
            }
        };
        self.len = self.len.saturating_add(added);
        file.write_all(bytes)
    }
}

/// Removes the oldest log folders beyond the limit.
fn prune(folder: &Path, running: &BTreeSet<String>) {
    let age = |entry: &fs::DirEntry| entry.metadata().and_then(|data| data.modified());
    let mut found: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| !entry.file_name().to_str().is_some_and(|name| running.contains(name)))
        .map(|entry| (age(&entry).unwrap_or(SystemTime::UNIX_EPOCH), entry.path()))
        .collect();
    found.sort();
    let surplus = found.len().saturating_sub(FOLDER_COUNT_MAX);
    for (_, path) in found.into_iter().take(surplus) {
        if let Err(error) = fs::remove_dir_all(&path) {
            say!("the old log {} cannot be removed: {error}", path.display());
        }
    }
}
