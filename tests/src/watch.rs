//! A thread that looks at the process table all the time, and tells when something runs twice that must not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::manifest::FENCED;
use crate::process_table::{WorkloadProcess, is_alive, is_stopped, workloads};

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
    watched: Arc<Mutex<Watched>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches the fleet in `state`.
    #[must_use]
    pub fn start(state: &Path) -> Self {
        let (stop, watched) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let (told, seen, state) = (Arc::clone(&stop), Arc::clone(&watched), state.to_owned());
        let thread = std::thread::spawn(move || watch(&state, &told, &seen));
        Self { stop, watched, thread: Some(thread) }
    }

    /// What was seen up to now.
    #[must_use]
    pub fn so_far(&self) -> Watched {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the watch.
    #[must_use]
    pub fn end(mut self) -> Watched {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // What it saw before it failed is still told.
            let _ = thread.join();
        }
        self.so_far()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn watch(state: &Path, stop: &AtomicBool, watched: &Mutex<Watched>) {
    let mut marks = BTreeSet::new();
    let mut look: u64 = 0;
    while !stop.load(Ordering::Acquire) {
        if look.is_multiple_of(LOOKS_PER_LISTING) {
            marks = guard_marks(state);
        }
        look += 1;
        let mut by_replica: BTreeMap<String, Vec<WorkloadProcess>> = BTreeMap::new();
        let mut seen = 0;
        for process in workloads(|mark| marks.contains(mark)) {
            // What is stopped does nothing: on a paused machine nothing else is to be had.
            if is_fenced(&process.replica) && !is_stopped(&process) {
                seen += 1;
                by_replica.entry(process.replica.clone()).or_default().push(process);
            }
        }
        let doubles: Vec<String> = by_replica.values().filter_map(|processes| double(processes)).collect();
        {
            let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.looks = look;
            watched.seen += seen;
            watched.doubles.extend(doubles);
        }
        std::thread::sleep(PAUSE);
    }
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
