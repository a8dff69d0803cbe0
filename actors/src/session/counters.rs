//! What sessions count.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::frame::Refusal;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        /// Counters of all sessions of this process since its start.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
        pub struct SessionCounters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> SessionCounters {
                SessionCounters { $($name: self.$name.0.load(Relaxed),)* }
            }
        }
    };
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

counters! {
    /// Calls made.
    calls_out,
    /// Casts made.
    casts_out,
    /// Calls and casts received and handed to the handler.
    handled_in,
    /// Calls without an answer in time.
    timeouts,
    /// Calls and casts refused here because too much was in flight or waiting to be sent.
    busy_out,
    /// Received: refused because no live session has the binding claimed. Somebody forges.
    refused_unknown_binding,
    /// Received: refused because the frame is not one.
    refused_malformed,
    /// Received: refused for its size.
    refused_too_large,
    /// Received: refused or given up because the deadline passed.
    refused_too_late,
    /// Received: refused because the peer has too many calls in flight.
    refused_busy,
    /// Handlers that panicked.
    handler_panics,
    /// Handlers whose answer was larger than allowed.
    answers_too_large,
    /// Sessions refused: the handshake's name is not the certificate's.
    sessions_wrong_name,
    /// Connections to the loopback listener, which is there only because ractor_cluster insists on one: closed.
    sessions_uninvited,
    /// Events dropped because nobody read them.
    events_dropped,
}

impl Counters {
    pub(super) fn note_refusal(&self, refusal: Refusal) {
        match refusal {
            Refusal::UnknownBinding => &self.refused_unknown_binding,
            Refusal::Malformed => &self.refused_malformed,
            Refusal::TooLarge => &self.refused_too_large,
            Refusal::TooLate => &self.refused_too_late,
            Refusal::Busy => &self.refused_busy,
            Refusal::HandlerFailed => &self.handler_panics,
            Refusal::AnswerTooLarge => &self.answers_too_large,
        }
        .add_one();
    }
}
