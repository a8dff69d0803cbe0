//! The shell around a core: an actor that feeds it, keeps its journal, and carries out its outputs.
//!
//! One shell for ledger, lead and home. For every message: run the core; write all journal records of its outputs and
//! sync them; only then let anything leave. If the journal cannot be written the actor fails: its supervisor starts it
//! again from what is on disk, and nothing that was not written has been promised.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use codeco_protocol::ids::{Identity, MemberId};
use codeco_protocol::messages::ControlMessage;
use codeco_protocol::units::BootTime;
use codeco_protocol::wire::WireMessage;
use futures::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::post::Post;
use crate::clock::{Alarm, boot_now};
use crate::journal::{Journal, JournalError};
use crate::mailbox::{CallError, Tracked};
use crate::supervision::{ChildRef, ChildSpec, Policy};

/// Software that writes the journals, noted in their headers.
pub const WRITER: &str = concat!("codeco ", env!("CARGO_PKG_VERSION"));

/// One output of a core, sorted by what the shell does with it.
#[derive(Debug)]
pub enum Sorted<R, O> {
    /// To be on disk before anything leaves.
    Journal(R),
    /// To another member.
    Send(MemberId, ControlMessage),
    /// Anything else, for [`Effects`].
    Other(O),
}

/// A pure core, as its shell sees it.
pub trait Core: Sized + Send + 'static {
    /// What it is told.
    type Input: Send + 'static;
    /// What it wants done.
    type Output: Send + 'static;
    /// What it writes down.
    type Record: WireMessage + Send + 'static;

    /// Feeds one input.
    fn handle(&mut self, now: BootTime, input: Self::Input, out: &mut Vec<Self::Output>);
    /// A control message as an input; `None` if it is not for this core.
    fn message(from: &Identity, message: ControlMessage) -> Option<Self::Input>;
    /// Time has passed.
    fn tick() -> Self::Input;
    /// When the next tick is due.
    fn next_tick(&self, now: BootTime) -> BootTime;
    /// The records that stand for the present state.
    fn snapshot(&self) -> Vec<Self::Record>;
    /// Sorts an output.
    fn sort(output: Self::Output) -> Sorted<Self::Record, Self::Output>;
}

/// What happens outside of the core.
pub trait Effects<C: Core>: Send + Sync + 'static {
    /// Carries out an output that is neither a record nor a message.
    fn carry_out(&self, output: C::Output);
    /// Called after each message, once its records are on disk and before anything leaves: publishes what others may
    /// see of the core.
    fn observe(&self, core: &C);
}

/// A core restored from disk, and what it is told first.
pub struct Started<C: Core> {
    /// The core.
    pub core: C,
    /// Its journal.
    pub journal: Journal<C::Record>,
    /// Outputs of restoring it.
    pub outputs: Vec<C::Output>,
    /// First inputs.
    pub inputs: Vec<C::Input>,
}

/// Restores a core, at each start of its actor.
pub type Restore<C> = Arc<dyn Fn() -> BoxFuture<'static, Result<Started<C>, String>> + Send + Sync>;

/// A closure run inside the actor, with exclusive access to the core: queries, and commands of people.
pub type Job<C> = Box<dyn FnOnce(&mut C, BootTime, &mut Vec<<C as Core>::Output>) -> Finish + Send>;
/// What a job does after its records are on disk: answer whoever asked.
pub type Finish = Box<dyn FnOnce() + Send>;

/// What the actor takes.
pub enum CoreMessage<C: Core> {
    /// An input.
    Input(C::Input),
    /// Control messages of another member. Answers to it go into `reply` while it waits.
    Deliver {
        /// The sender, as its certificate says.
        from: Identity,
        /// The messages, in order.
        messages: Vec<ControlMessage>,
        /// Where the sender waits for answers.
        reply: Option<RpcReplyPort<Vec<ControlMessage>>>,
    },
    /// A closure to run.
    Job(Job<C>),
    /// A timer went off.
    Wake,
    /// Fail, to see what happens.
    Panic,
}

impl<C: Core> std::fmt::Debug for CoreMessage<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Input(_) => "Input",
            Self::Deliver { .. } => "Deliver",
            Self::Job(_) => "Job",
            Self::Wake => "Wake",
            Self::Panic => "Panic",
        })
    }
}

/// The actor. See the module.
pub struct CoreActor<C: Core> {
    /// Restores the core.
    pub restore: Restore<C>,
    /// Takes messages to other members.
    pub post: Arc<Post>,
    /// Does the rest.
    pub effects: Arc<dyn Effects<C>>,
    /// When the ticker is to wake the actor, in microseconds of the boot clock.
    alarm: Arc<Alarm>,
}

/// State of the actor.
pub struct CoreState<C: Core> {
    core: C,
    journal: Journal<C::Record>,
}

impl<C: Core> CoreActor<C> {
    /// Journals, then carries out `outputs`. Answers to `asker` are returned, all other messages posted.
    fn settle(
        &self,
        state: &mut CoreState<C>,
        outputs: Vec<C::Output>,
        asker: Option<MemberId>,
    ) -> Result<Vec<ControlMessage>, ActorProcessingErr> {
        let mut records = Vec::new();
        let mut rest = Vec::with_capacity(outputs.len());
        for output in outputs {
            match C::sort(output) {
                Sorted::Journal(record) => records.push(record),
                other => rest.push(other),
            }
        }
        if !records.is_empty() {
            // The worker's other tasks go on elsewhere while the disk syncs.
            tokio::task::block_in_place(|| {
                state.journal.append(&records)?;
                if state.journal.wants_compaction() {
                    state.journal.compact(&state.core.snapshot(), WRITER)?;
                }
                Ok::<_, JournalError>(())
            })?;
        }
        self.effects.observe(&state.core);
        let mut letters: BTreeMap<MemberId, Vec<ControlMessage>> = BTreeMap::new();
        for sorted in rest {
            match sorted {
                Sorted::Send(to, message) => letters.entry(to).or_default().push(message),
                Sorted::Other(output) => self.effects.carry_out(output),
                Sorted::Journal(_) => unreachable!("journal records were taken out above"),
            }
        }
        let answers = asker.and_then(|asker| letters.remove(&asker)).unwrap_or_default();
        for (to, messages) in letters {
            self.post.send(to, messages);
        }
        self.alarm.set(state.core.next_tick(boot_now()));
        Ok(answers)
    }
}

impl<C: Core> Actor for CoreActor<C> {
    type Msg = Tracked<CoreMessage<C>>;
    type State = CoreState<C>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let Started { mut core, journal, mut outputs, inputs } = (self.restore)().await?;
        let now = boot_now();
        for input in inputs {
            core.handle(now, input, &mut outputs);
        }
        let mut state = CoreState { core, journal };
        self.settle(&mut state, outputs, None)?;
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let now = boot_now();
        let mut outputs = Vec::new();
        match message.open() {
            CoreMessage::Input(input) => {
                state.core.handle(now, input, &mut outputs);
                self.settle(state, outputs, None)?;
            }
            CoreMessage::Deliver { from, messages, reply } => {
                for message in messages {
                    if let Some(input) = C::message(&from, message) {
                        state.core.handle(now, input, &mut outputs);
                    }
                }
                let asker = reply.as_ref().map(|_| from.id);
                let answers = self.settle(state, outputs, asker)?;
                if let Some(reply) = reply {
                    // An asker that has stopped waiting asks again.
                    let _ = reply.send(answers);
                }
            }
            CoreMessage::Job(job) => {
                let finish = job(&mut state.core, now, &mut outputs);
                self.settle(state, outputs, None)?;
                finish();
            }
            CoreMessage::Wake => {
                state.core.handle(now, C::tick(), &mut outputs);
                self.settle(state, outputs, None)?;
            }
            CoreMessage::Panic => panic!("a fault was injected"),
        }
        Ok(())
    }
}

/// How long a job may wait in the mailbox and run.
pub const JOB_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages waiting for a core at most; what is more is refused, and its sender asks again.
const MAILBOX_MAX: u64 = 4_096;

/// A core as a supervised child, and the reference that follows it through its restarts.
pub fn core_child<C: Core>(
    name: &str,
    policy: Policy,
    restore: Restore<C>,
    post: Arc<Post>,
    effects: Arc<dyn Effects<C>>,
) -> (ChildSpec, ChildRef<CoreMessage<C>>) {
    let alarm = Arc::new(Alarm::default());
    let make = {
        let alarm = Arc::clone(&alarm);
        move || {
            let actor = CoreActor {
                restore: Arc::clone(&restore),
                post: Arc::clone(&post),
                effects: Arc::clone(&effects),
                alarm: Arc::clone(&alarm),
            };
            (actor, ())
        }
    };
    let (spec, child) = ChildSpec::tracked(name, policy, MAILBOX_MAX, make);
    tokio::spawn(tick(child.clone(), alarm));
    (spec, child)
}

/// Wakes the actor whenever its alarm goes off, for as long as it may be started again.
async fn tick<C: Core>(child: ChildRef<CoreMessage<C>>, alarm: Arc<Alarm>) {
    while let Some(running) = child.running().await {
        if !alarm.goes_off(Duration::from_millis(2), Duration::from_secs(1)).await {
            continue;
        }
        if running.try_send(CoreMessage::Wake).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Runs a closure inside the actor and waits for what it returns, which comes once its records are on disk.
///
/// # Errors
/// [`CallError`] if the actor does not run, is full, or does not answer in time.
pub async fn ask<C: Core, T: Send + 'static>(
    child: &ChildRef<CoreMessage<C>>,
    question: impl FnOnce(&mut C, BootTime, &mut Vec<C::Output>) -> T + Send + 'static,
) -> Result<T, CallError> {
    child
        .call(
            |reply: RpcReplyPort<T>| {
                CoreMessage::Job(Box::new(move |core, now, out| {
                    let answer = question(core, now, out);
                    Box::new(move || {
                        // Whoever asked may have stopped waiting.
                        let _ = reply.send(answer);
                    })
                }))
            },
            JOB_TIMEOUT,
        )
        .await
}
