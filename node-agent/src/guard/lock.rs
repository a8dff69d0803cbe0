//! What makes a guard the only one of its state folder, and its children recognisable.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use uuid::Uuid;

const LOCK_FILE: &str = "guard.lock";
const MARK_FILE: &str = "guard.id";

/// Why a guard cannot take its state folder.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    #[error("another guard is in charge of {folder}; connect to it instead")]
    Locked { folder: String },
    #[error("the state folder {folder} cannot be used: {source}")]
    Folder { folder: String, source: io::Error },
    #[error(
        "{file} does not hold a uuid; remove it only if no process carries CODECO_GUARD in its environment"
    )]
    Mark { file: String },
}

/// Locks the folder (made if absent, for this user alone). Held as long as the file is open.
pub(super) fn lock(folder: &Path) -> Result<File, LockError> {
    let failed = |source| LockError::Folder { folder: folder.display().to_string(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(folder.join(LOCK_FILE)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LockError::Locked { folder: folder.display().to_string() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The folder's mark, made at the first call. On disk before any process can carry it.
pub(super) fn mark(folder: &Path) -> Result<Uuid, LockError> {
    let failed = |source| LockError::Folder { folder: folder.display().to_string(), source };
    let file = folder.join(MARK_FILE);
    match fs::read_to_string(&file) {
        Ok(text) => text.trim().parse().map_err(|_| LockError::Mark { file: file.display().to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mark = Uuid::new_v4();
            write_durably(folder, &file, &mark.to_string()).map_err(failed)?;
            Ok(mark)
        }
        Err(error) => Err(failed(error)),
    }
}

fn write_durably(folder: &Path, file: &Path, text: &str) -> io::Result<()> {
    let draft = file.with_extension("new");
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    fs::rename(&draft, file)?;
    File::open(folder)?.sync_all()
}
