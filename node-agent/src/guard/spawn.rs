//! Makes a container's process.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{PipeReader, PipeWriter};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use codeco_protocol::ids::{ReplicaId, ServiceName};
use codeco_protocol::workload::{ContainerSpec, Workload};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, getpid};
use uuid::Uuid;

use super::options::GuardOptions;
use crate::runtime::supervisor::SpawnFailure;

/// Longest message about a manifest.
const MESSAGE_LEN_MAX: usize = 1_024;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How processes name their replica in `CODECO_REPLICA`: `<app uid>/<service>-<index>`.
#[must_use]
pub fn replica_label(replica: &ReplicaId) -> String {
    format!("{}/{}-{}", replica.app, replica.service, replica.index)
}

/// The environment entry that says: a process of the guard with this mark.
pub(super) fn guard_mark(mark: Uuid) -> String {
    format!("CODECO_GUARD={mark}")
}

/// The environment entries by which a container's processes are known.
pub(super) fn container_marks(mark: Uuid, replica: &ReplicaId, container: &str) -> Vec<String> {
    vec![
        guard_mark(mark),
        format!("CODECO_REPLICA={}", replica_label(replica)),
        format!("CODECO_CONTAINER={container}"),
    ]
}

/// A process that is about to become the container's program.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) pid: Pid,
    /// Ends when the program has taken its place; what comes before is why it could not.
    pub(super) report: PipeReader,
}

/// Starts the shim for a container, in a process group of its own.
pub(super) fn spawn(
    options: &GuardOptions,
    mark: Uuid,
    workload: &Workload,
    container: &ContainerSpec,
    output: &PipeWriter,
) -> Result<Spawned, SpawnFailure> {
    let transient = |what: &str, error: std::io::Error| {
        SpawnFailure::Transient(format!("container {:?}: {what}: {error}", container.name))
    };
    let (report, reporter) = std::io::pipe().map_err(|error| transient("no pipe", error))?;
    ioctl_fionbio(&report, true).map_err(|error| transient("no pipe", error.into()))?;
    let copy = || output.try_clone().map_err(|error| transient("no pipe for its output", error));
    let Some((shim, shim_args)) = options.shim_command.split_first() else {
        return Err(SpawnFailure::Permanent("the guard was started without a shim".into()));
    };
    let mut command = Command::new(shim);
    command
        .args(shim_args)
        .args([&getpid().to_string(), "--"])
        .args(container.command.iter().chain(&container.args))
        .env_clear()
        .envs(environment(options, mark, workload, container))
        .stdin(Stdio::from(reporter))
        .stdout(Stdio::from(copy()?))
        .stderr(Stdio::from(copy()?))
        .process_group(0);
    if let Some(folder) = &container.working_dir {
        if !std::path::Path::new(folder).is_dir() {
            return Err(SpawnFailure::Permanent(cut(format!(
                "container {:?}: its working directory {folder:?} is no directory on this node",
                container.name
            ))));
        }
        command.current_dir(folder);
    }
    let child = command.spawn().map_err(|error| transient("its process cannot be made", error))?;
    Ok(Spawned { pid: Pid::from_child(&child), report })
}

/// Checks what trying again cannot mend.
pub(super) fn check(container: &ContainerSpec) -> Result<(), SpawnFailure> {
    let name = &container.name;
    let problem = if ServiceName::new(name.as_str()).is_err() {
        format!("container {name:?}: its name is no RFC 1123 label (1 to 63 of a-z, 0-9, '-')")
    } else if container.command.first().is_none_or(String::is_empty) {
        format!(
            "container {name:?} has no command: the process runtime does not pull images (found image {:?}), \
             so `command` must name a program that is installed on the node",
            container.image
        )
    } else if container.command.iter().chain(&container.args).any(|part| part.contains('\0')) {
        format!("container {name:?}: `command` and `args` must not hold NUL bytes")
    } else if let Some((key, _)) = container.env.iter().find(|(key, value)| !is_env(key, value)) {
        format!("container {name:?}: environment variable {key:?} needs a name without '=' and no NUL bytes")
    } else {
        return Ok(());
    };
    Err(SpawnFailure::Permanent(cut(problem)))
}

/// Manifests may hold anything; what is said about them stays short.
fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MESSAGE_LEN_MAX));
    message
}

fn is_env(key: &str, value: &str) -> bool {
    !key.is_empty() && !key.contains(['=', '\0']) && !value.contains('\0')
}

fn environment<'a>(
    options: &'a GuardOptions,
    mark: Uuid,
    workload: &'a Workload,
    container: &'a ContainerSpec,
) -> BTreeMap<&'a OsStr, String> {
    let mut all: BTreeMap<&OsStr, String> = BTreeMap::from([(OsStr::new("PATH"), PATH.to_owned())]);
    all.extend(container.env.iter().map(|(key, value)| (OsStr::new(key.as_str()), value.clone())));
    // Ours last: a manifest cannot replace them.
    all.extend([
        (OsStr::new("CODECO_GUARD"), mark.to_string()),
        (OsStr::new("CODECO_REPLICA"), replica_label(&workload.replica)),
        (OsStr::new("CODECO_CONTAINER"), container.name.clone()),
        (OsStr::new("CODECO_INDEX"), workload.replica.index.to_string()),
        (OsStr::new("CODECO_FENCING_TOKEN"), workload.token.to_string()),
        (OsStr::new("CODECO_NODE"), options.node.clone()),
    ]);
    all
}
