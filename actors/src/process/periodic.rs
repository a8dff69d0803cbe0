//! An actor that does one thing again and again: the shell of components that only look and tell.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::mailbox::Tracked;
use crate::supervision::{ChildRef, ChildSpec, Policy};

/// What it takes.
#[derive(Debug)]
pub enum PeriodicMessage {
    /// Do it.
    Tick,
    /// Fail, to see what happens.
    Panic,
}

/// What is done.
type Work = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

struct Periodic {
    work: Work,
}

impl Actor for Periodic {
    type Msg = Tracked<PeriodicMessage>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok((self.work)().await?)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            PeriodicMessage::Tick => Ok((self.work)().await?),
            PeriodicMessage::Panic => panic!("a fault was injected"),
        }
    }
}

/// An actor that does `work` at its start and then every `period`.
pub fn periodic_child<F>(
    name: &str,
    policy: Policy,
    period: Duration,
    work: F,
) -> (ChildSpec, ChildRef<PeriodicMessage>)
where
    F: Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
{
    let work: Work = Arc::new(work);
    let (spec, child) =
        ChildSpec::tracked(name, policy, 4, move || (Periodic { work: Arc::clone(&work) }, ()));
    let ticked = child.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            // An actor that is still busy, or being restarted, is asked again next time.
            let _ = ticked.try_send(PeriodicMessage::Tick);
        }
    });
    (spec, child)
}
