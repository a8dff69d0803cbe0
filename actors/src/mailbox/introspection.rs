//! The list of all actors of a process: who runs, under whom, how busy, and what went wrong last.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::histogram::WaitHistogram;

/// Rates are taken over spans of at least this.
const RATE_SPAN_MIN: Duration = Duration::from_millis(500);
/// And at most this.
const RATE_SPAN_MAX: Duration = Duration::from_secs(60);
/// Longest error text kept, in characters.
const ERROR_LEN_MAX: usize = 500;

/// What an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// Being started.
    Starting,
    /// Handling messages.
    Running,
    /// Failed, will be started again after a wait.
    Restarting,
    /// Failed too often, or cannot run without one that did.
    GivenUp,
    /// Ended in order.
    Stopped,
}

/// Counters around one actor, shared by all its incarnations. All relaxed: they are for people, not for decisions.
#[derive(Debug, Default)]
pub struct Counters {
    depth: AtomicU64,
    depth_max: AtomicU64,
    handled: AtomicU64,
    shed: AtomicU64,
    failures: AtomicU64,
    restarts: AtomicU64,
    wait: WaitHistogram,
}

impl Counters {
    /// Counts a message in, unless more than `limit` would wait then.
    pub(super) fn admit(&self, limit: u64) -> bool {
        // Counted before it is checked, so that many senders at once cannot pass the limit together.
        let depth = self.depth.fetch_add(1, Relaxed) + 1;
        if depth > limit {
            self.depth.fetch_sub(1, Relaxed);
            self.shed.fetch_add(1, Relaxed);
            return false;
        }
        // Read first: the maximum rarely moves, and a load does not bounce the cache line.
        if depth > self.depth_max.load(Relaxed) {
            self.depth_max.fetch_max(depth, Relaxed);
        }
        true
    }

    pub(super) fn note_left(&self) {
        self.depth.fetch_sub(1, Relaxed);
    }

    pub(super) fn note_handled(&self, wait: std::time::Duration) {
        self.handled.fetch_add(1, Relaxed);
        self.wait.record(wait);
    }

    /// Counts a panic or an error that ended the actor.
    pub fn note_failure(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// Counts a start after a failure.
    pub fn note_restart(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    /// Messages that wait now.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.depth.load(Relaxed)
    }

    /// All counters as they are now, not atomically with each other.
    #[must_use]
    pub fn snapshot(&self) -> CountersSnapshot {
        CountersSnapshot {
            depth: self.depth.load(Relaxed),
            depth_max: self.depth_max.load(Relaxed),
            handled: self.handled.load(Relaxed),
            shed: self.shed.load(Relaxed),
            failures: self.failures.load(Relaxed),
            restarts: self.restarts.load(Relaxed),
            wait_p50_us: self.wait.quantile_us(500),
            wait_p99_us: self.wait.quantile_us(990),
        }
    }
}

/// [`Counters`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CountersSnapshot {
    /// Messages waiting.
    pub depth: u64,
    /// Most messages that ever waited.
    pub depth_max: u64,
    /// Messages taken out of the mailbox.
    pub handled: u64,
    /// Messages refused because the mailbox was at its limit.
    pub shed: u64,
    /// Panics and errors that ended the actor.
    pub failures: u64,
    /// Starts after a failure.
    pub restarts: u64,
    /// Median wait in the mailbox in µs, rounded up to a power of two; absent without messages.
    pub wait_p50_us: Option<u64>,
    /// 99th percentile of the wait, likewise.
    pub wait_p99_us: Option<u64>,
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActorReport {
    /// Path from the root, such as `agent/swm/ledger`.
    pub name: String,
    /// Path of the supervisor; absent for a root.
    pub parent: Option<String>,
    /// What it is doing.
    pub state: ActorState,
    /// Why it last failed.
    pub last_error: Option<String>,
    /// Messages handled a second since the last look of anybody, if that was at least half a second and at most a minute
    /// ago; else since the actor first started.
    pub handled_per_second: f64,
    /// Its counters.
    #[serde(flatten)]
    pub counters: CountersSnapshot,
}

#[derive(Debug)]
struct Status {
    state: ActorState,
    last_error: Option<String>,
    rate: Rate,
}

/// Who looks leaves a mark, from which the next look counts: nobody pays for rates that nobody reads.
#[derive(Debug)]
struct Rate {
    born: Instant,
    /// The last look, and what was handled until then.
    mark: Option<(Instant, u64)>,
    last: f64,
}

impl Rate {
    #[allow(clippy::cast_precision_loss)]
    fn look(&mut self, now: Instant, handled: u64) -> f64 {
        let (since, before) = match self.mark {
            Some((at, _)) if now.duration_since(at) < RATE_SPAN_MIN => return self.last,
            Some((at, before)) if now.duration_since(at) <= RATE_SPAN_MAX => (at, before),
            _ => (self.born, 0),
        };
        let seconds = now.duration_since(since).as_secs_f64().max(0.001);
        self.mark = Some((now, handled));
        self.last = handled.saturating_sub(before) as f64 / seconds;
        self.last
    }
}

/// The entry of one actor. It outlives restarts.
#[derive(Debug)]
pub struct ActorEntry {
    name: String,
    parent: Option<String>,
    counters: Counters,
    status: Mutex<Status>,
}

impl ActorEntry {
    /// Path from the root.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> ActorState {
        lock(&self.status).state
    }

    /// Notes what it is doing now.
    pub fn set_state(&self, state: ActorState) {
        lock(&self.status).state = state;
    }

    /// Keeps why it failed, cut to 500 characters.
    pub fn set_error(&self, error: &str) {
        lock(&self.status).last_error = Some(error.chars().take(ERROR_LEN_MAX).collect());
    }

    /// The line about it.
    #[must_use]
    pub fn report(&self) -> ActorReport {
        let counters = self.counters.snapshot();
        let mut status = lock(&self.status);
        let handled_per_second = status.rate.look(Instant::now(), counters.handled);
        ActorReport {
            name: self.name.clone(),
            parent: self.parent.clone(),
            state: status.state,
            last_error: status.last_error.clone(),
            handled_per_second,
            counters,
        }
    }
}

/// Handle on the list of actors of this process. Clones share the list; it is passed in, never global.
///
/// Nobody pays for it but who reads it: registering locks the list, messages do not.
#[derive(Debug, Clone, Default)]
pub struct Introspection {
    actors: Arc<Mutex<BTreeMap<String, Arc<ActorEntry>>>>,
}

impl Introspection {
    /// The entry of this actor, made if there is none: a restarted actor goes on counting.
    #[must_use]
    pub fn register(&self, name: &str, parent: Option<&str>) -> Arc<ActorEntry> {
        let path = parent.map_or_else(|| name.to_owned(), |parent| format!("{parent}/{name}"));
        let new = || {
            Arc::new(ActorEntry {
                name: path.clone(),
                parent: parent.map(str::to_owned),
                counters: Counters::default(),
                status: Mutex::new(Status {
                    state: ActorState::Starting,
                    last_error: None,
                    rate: Rate { born: Instant::now(), mark: None, last: 0.0 },
                }),
            })
        };
        Arc::clone(lock(&self.actors).entry(path.clone()).or_insert_with(new))
    }

    /// Drops an actor from the list, for actors that come and go.
    pub fn forget(&self, path: &str) {
        lock(&self.actors).remove(path);
    }

    /// All actors by path.
    #[must_use]
    pub fn list(&self) -> Vec<ActorReport> {
        lock(&self.actors).values().map(|entry| entry.report()).collect()
    }

    /// The entry at this path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Arc<ActorEntry>> {
        lock(&self.actors).get(path).cloned()
    }

    /// Paths of the actors given up: while there are any, the process is not ready.
    #[must_use]
    pub fn given_up(&self) -> Vec<String> {
        let actors = lock(&self.actors);
        let given_up = actors.values().filter(|entry| entry.state() == ActorState::GivenUp);
        given_up.map(|entry| entry.name.clone()).collect()
    }
}

/// Nothing panics while it holds these locks, and what they guard is valid at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actor_registered_again_keeps_its_counters() {
        let list = Introspection::default();
        list.register("ledger", Some("agent")).counters().note_failure();
        let again = list.register("ledger", Some("agent"));
        again.counters().note_restart();
        let report = &list.list()[0];
        assert_eq!((report.name.as_str(), report.parent.as_deref()), ("agent/ledger", Some("agent")));
        assert_eq!((report.counters.failures, report.counters.restarts), (1, 1));
    }

    #[test]
    fn given_up_lists_only_actors_in_that_state() {
        let list = Introspection::default();
        list.register("a", None).set_state(ActorState::Running);
        list.register("b", None).set_state(ActorState::GivenUp);
        assert_eq!(list.given_up(), ["b"]);
    }

    #[test]
    fn rate_counts_from_the_last_look_and_from_the_start_when_nobody_has_looked_for_long() {
        let born = Instant::now();
        let at = |seconds: f64| born + Duration::from_secs_f64(seconds);
        let mut rate = Rate { born, mark: None, last: 0.0 };
        assert!((rate.look(at(10.0), 50) - 5.0).abs() < 1e-9);
        assert!((rate.look(at(12.0), 250) - 100.0).abs() < 1e-9);
        assert!((rate.look(at(12.1), 9_999) - 100.0).abs() < 1e-9, "too soon to tell anything new");
        assert!((rate.look(at(200.0), 400) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn error_text_is_cut() {
        let list = Introspection::default();
        let entry = list.register("a", None);
        entry.set_error(&"ä".repeat(10_000));
        assert_eq!(entry.report().last_error.map(|e| e.chars().count()), Some(ERROR_LEN_MAX));
    }
}
