//! The socket between agent and guard.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{geteuid, umask};

const SOCKET_FILE: &str = "guard.sock";

/// The socket's path by way of an open folder: a unix socket's own path is limited to 108 bytes, a state folder's
/// is not.
pub(crate) fn short_path(folder: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let folder = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_FILE}", folder.as_raw_fd()));
    Ok((folder, path))
}

/// Listens for agents, in the place of whatever socket an earlier guard has left: the caller holds the lock.
pub(super) fn listen(folder: &Path) -> io::Result<UnixListener> {
    let (_open, path) = short_path(folder)?;
    remove(folder)?;
    let before = umask(Mode::XUSR | Mode::RWXG | Mode::RWXO);
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Removes the socket, so that nobody waits at a dead one.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_file(folder.join(SOCKET_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether the other end runs as this user or as root.
pub(super) fn peer_is_trusted(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid == geteuid() || peer.uid.is_root())
}
