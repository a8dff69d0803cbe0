//! An actor that does one thing again and again: the shell of components that only look and tell.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;

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

/// How often work is done that follows something.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two times at least.
    pub least: Duration,
    /// Between two times at most, if nothing changes.
    pub most: Duration,
}

/// An actor that does `work` at its start, soon after one of `follows` has changed, and now and then if none does.
pub fn following_child<F>(
    name: &str,
    policy: Policy,
    pace: Pace,
    mut follows: Vec<watch::Receiver<u64>>,
    work: F,
) -> (ChildSpec, ChildRef<PeriodicMessage>)
where
    F: Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
{
    let (spec, child) = tracked(name, policy, work);
    let ticked = child.clone();
    tokio::spawn(async move {
        loop {
            for follow in &mut follows {
                follow.mark_unchanged();
            }
            // An actor that is still busy, or being restarted, is asked again next time.
            let _ = ticked.try_send(PeriodicMessage::Tick);
            tokio::time::sleep(pace.least).await;
            let changes = follows.iter_mut().map(|follow| Box::pin(follow.changed()));
            // Those who change them live as long as the process.
            let _ = tokio::time::timeout(pace.most, futures::future::select_all(changes)).await;
        }
    });
    (spec, child)
}

fn tracked<F>(name: &str, policy: Policy, work: F) -> (ChildSpec, ChildRef<PeriodicMessage>)
where
    F: Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
{
    let work: Work = Arc::new(work);
    ChildSpec::tracked(name, policy, 4, move || (Periodic { work: Arc::clone(&work) }, ()))
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
    let (spec, child) = tracked(name, policy, work);
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
