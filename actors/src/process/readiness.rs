//! Whether a process is ready, and what keeps it from being.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::mailbox::Introspection;

/// What must hold for readiness. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness {
    open: Arc<Mutex<BTreeMap<&'static str, String>>>,
    actors: Introspection,
}

impl Readiness {
    /// Ready once every one of `conditions` has been met, for as long as no actor is given up on.
    #[must_use]
    pub fn new(conditions: &[(&'static str, &str)], actors: Introspection) -> Self {
        let open = conditions.iter().map(|(name, why)| (*name, (*why).to_owned())).collect();
        Self { open: Arc::new(Mutex::new(open)), actors }
    }

    /// A condition is met.
    pub fn met(&self, condition: &'static str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(condition);
    }

    /// A condition is not met.
    pub fn unmet(&self, condition: &'static str, why: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(condition, why.to_owned());
    }

    /// What keeps the process from being ready; empty if it is.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let conditions = open.iter().map(|(name, why)| format!("{name}: {why}"));
        let given_up =
            self.actors.given_up().into_iter().map(|actor| format!("actor {actor} is given up on"));
        conditions.chain(given_up).collect()
    }
}
