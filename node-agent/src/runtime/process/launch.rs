//! Finds the node's guard, or starts one.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bincode::Encode;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::ProcessOptions;
use crate::guard::messages::{Answer, FromGuard, Request, RequestBody, VERSION};
use crate::guard::{EXIT_LOCKED, FRAME_LEN_MAX, GuardOptions, READY_LINE, decode, encode, socket};

/// How long finding or starting a guard may take. A new guard first kills what a former one has left.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a guard that is connected to may take to say welcome.
const HELLO_TIME_MAX: Duration = Duration::from_secs(5);
/// How long one message may take to be written.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause while one guard goes and another cannot come yet.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Size at which the guard's own log is begun anew.
const LOG_LEN_MAX: u64 = 256 * 1024;
const LOG_FILE: &str = "guard.log";
const CHUNK_LEN: usize = 16 * 1024;

/// Why there is no guard to talk to. Nothing was changed on the node.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The state folder cannot be used.
    #[error("the state folder {} cannot be used: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The guard's program cannot be run.
    #[error("the guard {command:?} cannot be started: {source}; check `guard_command`")]
    Spawn {
        /// Program and arguments.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The guard ended at once.
    #[error("the guard ended at once with {status}; its reason is at the end of {}", log.display())]
    Ended {
        /// How it ended.
        status: String,
        /// Its log.
        log: PathBuf,
    },
    /// The guard does not speak our language.
    #[error(
        "the guard gave a wrong answer to hello: {found}; stop its replicas and end it, then start again"
    )]
    Hello {
        /// What it said.
        found: String,
    },
    /// The guard exists and does not answer.
    #[error("no guard answered in {}: {reason}", folder.display())]
    Timeout {
        /// The folder.
        folder: PathBuf,
        /// What was last seen.
        reason: String,
    },
}

/// A guard that has said welcome.
#[derive(Debug)]
pub(super) struct Guard {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// Another one than before: another process, and everything of the former is dead.
    pub(super) instance: u128,
}

impl Guard {
    /// Writes one message.
    pub(super) async fn send<T: Encode>(&mut self, message: &T) -> io::Result<()> {
        let frame = encode(message).map_err(io::Error::other)?;
        timeout(WRITE_TIME_MAX, self.stream.write_all(&frame))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the guard does not read")))
    }

    /// Reads one message. May be cancelled without losing anything.
    pub(super) async fn receive(&mut self) -> io::Result<FromGuard> {
        loop {
            if let Some(message) = decode(&mut self.buffer).map_err(io::Error::other)? {
                return Ok(message);
            }
            debug_assert!(self.buffer.len() <= FRAME_LEN_MAX + CHUNK_LEN, "a frame in hand is complete");
            self.buffer.reserve(CHUNK_LEN);
            let mut chunk = (&mut self.stream).take(CHUNK_LEN as u64);
            if chunk.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Connects to the guard of the folder; starts one if there is none.
pub(super) async fn connect(options: &ProcessOptions) -> Result<Guard, ConnectError> {
    let begun = Instant::now();
    loop {
        if let Some(guard) = find(&options.state_folder).await? {
            return Ok(guard);
        }
        start(options).await?;
        if begun.elapsed() > CONNECT_TIME_MAX {
            let reason = "it was started and is gone again".into();
            return Err(ConnectError::Timeout { folder: options.state_folder.clone(), reason });
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Connects to the guard of the folder; `None` if there is none.
pub(super) async fn find(folder: &Path) -> Result<Option<Guard>, ConnectError> {
    let begun = Instant::now();
    loop {
        let reason = match try_connect(folder).await {
            Ok(stream) => match timeout(HELLO_TIME_MAX, say_hello(stream)).await {
                Ok(Ok(guard)) => return Ok(Some(guard)),
                Ok(Err(HelloError::Wrong(found))) => return Err(ConnectError::Hello { found }),
                // It ended in this moment, or a newer agent took its place in the queue.
                Ok(Err(HelloError::Closed(error))) => format!("it closed the connection: {error}"),
                Err(_) => "it does not say welcome; is its process stopped?".into(),
            },
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => format!("its socket cannot be connected to: {error}"),
        };
        if begun.elapsed() > CONNECT_TIME_MAX {
            return Err(ConnectError::Timeout { folder: folder.to_owned(), reason });
        }
        sleep(RETRY_PAUSE).await;
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

async fn try_connect(folder: &Path) -> io::Result<UnixStream> {
    let (_open, path) = socket::short_path(folder)?;
    UnixStream::connect(path).await
}

enum HelloError {
    Wrong(String),
    Closed(io::Error),
}

async fn say_hello(stream: UnixStream) -> Result<Guard, HelloError> {
    let mut guard = Guard { stream, buffer: Vec::new(), instance: 0 };
    let hello = Request { id: 0, body: RequestBody::Hello { version: VERSION } };
    guard.send(&hello).await.map_err(HelloError::Closed)?;
    match guard.receive().await.map_err(HelloError::Closed)? {
        FromGuard::Answer { body: Answer::Welcome { instance, .. }, .. } => Ok(Guard { instance, ..guard }),
        other => Err(HelloError::Wrong(format!("{other:?}").chars().take(200).collect())),
    }
}

/// Starts a guard and waits until it can be connected to. That another one holds the folder is fine.
async fn start(options: &ProcessOptions) -> Result<(), ConnectError> {
    let log_file = options.state_folder.join(LOG_FILE);
    let log = open_log(&options.state_folder, &log_file)
        .map_err(|source| ConnectError::Folder { folder: options.state_folder.clone(), source })?;
    let arguments = GuardOptions {
        state_folder: options.state_folder.clone(),
        node: options.node.to_string(),
        shim_command: options.shim_command.clone(),
        idle_after: options.idle_after,
    };
    let spawn_error =
        |source| ConnectError::Spawn { command: format!("{:?}", options.guard_command), source };
    let (program, first) = options
        .guard_command
        .split_first()
        .ok_or_else(|| spawn_error(io::Error::new(io::ErrorKind::InvalidInput, "the command is empty")))?;
    // Not a process group of its own: the guard makes itself the leader of a session, which a group leader cannot.
    let mut child = Command::new(program)
        .args(first)
        .args(arguments.to_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(log))
        .spawn()
        .map_err(spawn_error)?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = BufReader::new(stdout.take(READY_LINE.len() as u64));
        // A guard that says nothing in time is found out by the connection that follows.
        let _ = timeout(CONNECT_TIME_MAX, stdout.read_line(&mut line)).await;
    }
    if line == READY_LINE {
        // The child is reaped by tokio when it ends, and never killed by us.
        return Ok(());
    }
    let ended = |status: String| ConnectError::Ended { status, log: log_file.clone() };
    match timeout(HELLO_TIME_MAX, child.wait()).await {
        Ok(Ok(status)) if status.code() == Some(i32::from(EXIT_LOCKED)) => Ok(()),
        Ok(Ok(status)) => Err(ended(status.to_string())),
        Ok(Err(error)) => Err(ended(error.to_string())),
        Err(_) => Err(ended("no sign of life".into())),
    }
}

fn open_log(folder: &Path, file: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    if log.metadata()?.len() > LOG_LEN_MAX {
        log.set_len(0)?;
    }
    Ok(log)
}
