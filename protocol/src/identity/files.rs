//! Files that must be private, whole and durable.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why a file could not be read or written. After a failed write the old file is still there, whole.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Others may read or change a file that holds a secret.
    #[error("{path} holds a secret, but its mode is {mode:04o}: run `chmod 600 {path}`", path = path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Larger than such a file ever is.
    #[error("{path} is larger than {max} bytes, which no such file is", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
}

impl FileError {
    /// Whether the file simply is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Writes `content` so that after a crash the file is either the old one or the new one, and readable only by its
/// owner. Durable when this returns.
///
/// # Errors
/// [`FileError::Io`]; the old file is still there, unless only the folder could not be synced.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let failed = |action| move |source: io::Error| FileError::Io { action, path: path.to_owned(), source };
    let name = path.file_name().ok_or_else(|| failed("name")(io::ErrorKind::InvalidInput.into()))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let temporary = folder.join(format!(".{}.new", name.to_string_lossy()));
    // What an earlier crash left; `create_new` below then never follows a link somebody planted.
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("replace")(e)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed("create"))?;
    file.write_all(content).map_err(failed("write"))?;
    file.sync_all().map_err(failed("sync"))?;
    drop(file);
    std::fs::rename(&temporary, path).map_err(failed("rename into place"))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder of"))
}

/// Reads a file of at most `len_max` bytes that only its owner may touch.
///
/// # Errors
/// [`FileError`], also if others may read it.
pub fn read_private(path: &Path, len_max: u64) -> Result<Vec<u8>, FileError> {
    let failed = |action| move |source: io::Error| FileError::Io { action, path: path.to_owned(), source };
    let file = File::open(path).map_err(failed("open"))?;
    let mode = file.metadata().map_err(failed("inspect"))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::TooOpen { path: path.to_owned(), mode });
    }
    let mut content = Vec::new();
    file.take(len_max + 1).read_to_end(&mut content).map_err(failed("read"))?;
    if content.len() as u64 > len_max {
        return Err(FileError::TooLarge { path: path.to_owned(), max: len_max });
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn private_file_written_twice_holds_the_newest_and_only_the_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_private(&path, b"old").unwrap();
        std::fs::write(folder.path().join(".secret.new"), b"left by a crash").unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(read_private(&path, 10).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing left behind");
    }

    #[test]
    fn private_file_that_others_may_read_is_refused_with_the_command_that_helps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_private(&path, b"x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = read_private(&path, 10).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn private_file_larger_than_expected_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_private(&path, &[0; 11]).unwrap();
        assert!(matches!(read_private(&path, 10), Err(FileError::TooLarge { max: 10, .. })));
        assert!(read_private(&folder.path().join("none"), 10).unwrap_err().is_not_found());
    }
}
