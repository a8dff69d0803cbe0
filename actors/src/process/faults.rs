//! Faults on demand, for drills and for tests. Only where the configuration enables them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::drill::{self, Fault};
use crate::fabric::Commons;
use crate::supervision::ChildRef;

/// How long to wait for an actor to run again before the next panic.
const RUNNING_TIMEOUT: Duration = Duration::from_secs(30);
/// Most panics asked for at once.
const TIMES_MAX: u32 = 1_000;

/// Makes one actor panic once; `false` if it does not run any more.
pub type Panic = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// The actors that can be made to panic, by name, and the process they live in.
#[derive(Clone)]
pub struct Faults {
    enabled: bool,
    commons: Arc<Commons>,
    actors: BTreeMap<String, Panic>,
}

impl Faults {
    /// No actors yet.
    #[must_use]
    pub fn new(enabled: bool, commons: Arc<Commons>) -> Self {
        Self { enabled, commons, actors: BTreeMap::new() }
    }

    /// Adds an actor under its name.
    #[must_use]
    pub fn with(mut self, name: &str, panic: Panic) -> Self {
        self.actors.insert(name.to_owned(), panic);
        self
    }

    fn check_enabled(&self) -> Result<(), String> {
        if self.enabled {
            return Ok(());
        }
        Err("faults are not enabled on this member; start it with --faults".into())
    }

    /// A fault of the whole process or of its network, a moment after this has returned.
    ///
    /// # Errors
    /// What is wrong with the request, for people.
    pub fn inject(&self, fault: Fault) -> Result<(), String> {
        self.check_enabled()?;
        drill::inject(&self.commons, fault)
    }

    /// Makes an actor panic `times` times, each time it runs again. Returns at once.
    ///
    /// # Errors
    /// What is wrong with the request, for people.
    pub fn panic(&self, actor: &str, times: u32) -> Result<(), String> {
        self.check_enabled()?;
        let name = actor.rsplit('/').next().unwrap_or(actor);
        let Some(panic) = self.actors.get(name).cloned() else {
            let known: Vec<&str> = self.actors.keys().map(String::as_str).collect();
            return Err(format!("actor {actor:?} is not known here; expected one of {}", known.join(", ")));
        };
        if times == 0 || times > TIMES_MAX {
            return Err(format!("times: found {times}, expected 1 to {TIMES_MAX}"));
        }
        tokio::spawn(async move {
            for _ in 0..times {
                if !panic().await {
                    return;
                }
            }
        });
        Ok(())
    }
}

/// A panic by sending `message` to the present incarnation of `child`, then waiting for its end.
pub fn panic_by<M: Send + 'static>(
    child: &ChildRef<M>,
    message: impl Fn() -> M + Send + Sync + 'static,
) -> Panic {
    let child = child.clone();
    let message = Arc::new(message);
    Arc::new(move || {
        let (child, message) = (child.clone(), Arc::clone(&message));
        async move {
            let Ok(Some(running)) = tokio::time::timeout(RUNNING_TIMEOUT, child.running()).await else {
                return false;
            };
            if running.send(message()).is_err() {
                return true;
            }
            // An end that takes longer shows in the list of actors.
            let _ = running.actor().get_cell().wait(Some(RUNNING_TIMEOUT)).await;
            true
        }
        .boxed()
    })
}
