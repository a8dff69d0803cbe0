//! Events: what happened on a member, repeats counted instead of repeated, as in Kubernetes.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use codeco_protocol::api::{EventObject, EventType, EventView};
use codeco_protocol::units::WallTime;

use super::ring::RingFile;
use crate::clock::wall_now;

/// Events kept in memory.
const KEPT: usize = 2_000;
/// Bytes of one segment on disk.
const SEGMENT: u64 = 1 << 20;
/// An event like an earlier one is counted with it for so long.
const REPEAT_MS: u64 = 60_000;

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether all is well.
    pub kind: EventType,
    /// One word in camel case, as in Kubernetes.
    pub reason: &'static str,
    /// Kind of the object it is about.
    pub object_kind: &'static str,
    /// Its name.
    pub object: String,
    /// What happened, in a sentence.
    pub message: String,
}

/// The events of one member. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventLog {
    member: Arc<str>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    events: VecDeque<EventView>,
    file: RingFile,
}

impl EventLog {
    /// Opens the log of `member`, kept at `path`.
    #[must_use]
    pub fn open(member: &str, path: &Path) -> Self {
        let (file, old) = RingFile::open::<EventView>(path, SEGMENT);
        let mut events: VecDeque<EventView> = VecDeque::new();
        for event in old {
            // A later line of the same event carries its new count.
            if let Some(same) = events.iter_mut().rev().find(|known| {
                known.first_at == event.first_at
                    && (&known.reason, &known.object, &known.message)
                        == (&event.reason, &event.object, &event.message)
            }) {
                *same = event;
            } else {
                events.push_back(event);
            }
            if events.len() > KEPT {
                events.pop_front();
            }
        }
        Self { member: member.into(), inner: Arc::new(Mutex::new(Inner { events, file })) }
    }

    /// Tells something.
    pub fn tell(&self, note: Note) {
        self.tell_at(wall_now(), note, 1);
    }

    /// Tells something that happened `times` times.
    pub fn tell_times(&self, note: Note, times: u64) {
        self.tell_at(wall_now(), note, times);
    }

    fn tell_at(&self, now: WallTime, note: Note, times: u64) {
        let object = EventObject { kind: note.object_kind.to_owned(), name: note.object };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let repeated = inner.events.iter().rposition(|event| {
            event.reason == note.reason
                && event.object == object
                && event.message == note.message
                && now.0.saturating_sub(event.at.0) < REPEAT_MS
        });
        let before = repeated.map_or(0, |at| inner.events[at].count);
        let event = if let Some(mut event) = repeated.and_then(|at| inner.events.remove(at)) {
            event.count += times;
            event.at = now;
            event
        } else {
            // Logged once, however often it happens: the count tells the rest.
            match note.kind {
                EventType::Normal => {
                    tracing::info!(reason = note.reason, object = %object, "{}", note.message);
                }
                EventType::Warning => {
                    tracing::warn!(reason = note.reason, object = %object, "{}", note.message);
                }
            }
            EventView {
                at: now,
                kind: note.kind,
                reason: note.reason.to_owned(),
                object,
                member: self.member.to_string(),
                message: note.message,
                count: times,
                first_at: now,
            }
        };
        // Whoever makes the same happen a thousand times a second does not get a thousand writes a second.
        if before == 0 || before.ilog2() != event.count.ilog2() {
            inner.file.push(&event);
        }
        inner.events.push_back(event);
        if inner.events.len() > KEPT {
            inner.events.pop_front();
        }
    }

    /// The events, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<EventView> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).events.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(message: &str) -> Note {
        Note {
            kind: EventType::Warning,
            reason: "ActorFailed",
            object_kind: "Actor",
            object: "agent/mdm".into(),
            message: message.into(),
        }
    }

    #[test]
    fn events_that_repeat_are_counted_and_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let log = EventLog::open("n1", &path);
        log.tell_at(WallTime(1_000), note("a"), 1);
        log.tell_at(WallTime(2_000), note("b"), 1);
        log.tell_at(WallTime(3_000), note("a"), 1);
        log.tell_at(WallTime(3_000 + REPEAT_MS), note("a"), 1);
        let seen = |log: &EventLog| -> Vec<(String, u64)> {
            log.list().into_iter().map(|event| (event.message, event.count)).collect()
        };
        let expected = [("b".to_owned(), 1), ("a".to_owned(), 2), ("a".to_owned(), 1)];
        assert_eq!(seen(&log), expected);
        let mut again = seen(&EventLog::open("n1", &path));
        again.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(again, expected);
    }
}
