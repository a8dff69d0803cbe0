//! A thread that looks at the process table all the time, and tells when something runs twice that must not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::manifest::FENCED;
use crate::process_table::{WorkloadProcess, is_alive, workloads};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// Looks between two checks whether a new guard has appeared.
const LOOKS_PER_LISTING: u64 = 16;

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// How many looks were taken.
    pub looks: u64,
    /// Processes of replicas that must not run twice, found in all looks together.
    pub seen: u64,
    /// What ran twice at the same moment.
    pub doubles: BTreeSet<String>,
}

/// The thread; it ends with this.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Watched>>,
}

impl Watch {
    /// Watches the fleet in `state`.
    #[must_use]
    pub fn start(state: &Path) -> Self {
        let (stop, state) = (Arc::new(AtomicBool::new(false)), state.to_owned());
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || watch(&state, &told));
        Self { stop, thread: Some(thread) }
    }

    /// Ends the watch.
    #[must_use]
    pub fn end(mut self) -> Watched {
        self.stop.store(true, Ordering::Release);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn watch(state: &Path, stop: &AtomicBool) -> Watched {
    let mut watched = Watched::default();
    let mut marks = BTreeSet::new();
    while !stop.load(Ordering::Acquire) {
        if watched.looks.is_multiple_of(LOOKS_PER_LISTING) {
            marks = guard_marks(state);
        }
        watched.looks += 1;
        let mut by_replica: BTreeMap<String, Vec<WorkloadProcess>> = BTreeMap::new();
        for process in workloads(|mark| marks.contains(mark)) {
            if is_fenced(&process.replica) {
                watched.seen += 1;
                by_replica.entry(process.replica.clone()).or_default().push(process);
            }
        }
        watched.doubles.extend(by_replica.values().filter_map(|processes| double(processes)));
        std::thread::sleep(PAUSE);
    }
    watched
}

/// Two processes under different tokens or guards that are both still there after both have been found: then there
/// was a moment at which both ran.
fn double(processes: &[WorkloadProcess]) -> Option<String> {
    let first = processes.first()?;
    let (one, others): (Vec<_>, Vec<_>) =
        processes.iter().partition(|p| p.token == first.token && p.guard == first.guard);
    let other = others.into_iter().find(|process| is_alive(process))?;
    let one = one.into_iter().find(|process| is_alive(process))?;
    is_alive(other).then(|| {
        format!("{} ran under {} and under {} at the same time", one.replica, one.token, other.token)
    })
}

/// Whether a replica, `APP-UID/SERVICE-INDEX`, must not run twice.
fn is_fenced(replica: &str) -> bool {
    let service = replica.rsplit_once('/').and_then(|(_, name)| name.rsplit_once('-'));
    service.is_some_and(|(service, _)| service == FENCED)
}

fn guard_marks(state: &Path) -> BTreeSet<String> {
    let folders = fs::read_dir(state.join("agents")).into_iter().flatten().flatten();
    let mark = |folder: PathBuf| fs::read_to_string(folder.join("guard").join("guard.id")).ok();
    folders.filter_map(|entry| mark(entry.path())).map(|mark| mark.trim().to_owned()).collect()
}
