//! The learner's actor: it owns the learner, gives it what nodes have told, and publishes what comes of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use codeco_actors::clock::wall_now;
use codeco_actors::evidence::Note;
use codeco_actors::mailbox::Tracked;
use codeco_actors::pdlc::store::{keep_model, kept_model};
use codeco_actors::process::Member;
use codeco_actors::supervision::{ChildRef, ChildSpec, Policy};
use codeco_protocol::api::EventType;
use codeco_protocol::gossip::{Fact, LoadFact, ModelFact};
use codeco_protocol::ids::MemberId;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{Learner, LearnerConfig};

/// Looks at the fleet in a step of load.
const LOOKS_PER_STEP: u32 = 4;

/// What the actor takes.
#[derive(Debug)]
pub enum LearnerMessage {
    /// Look, and do a slice of work.
    Tick,
    /// Fail, to see what happens.
    Panic,
}

struct LearnerActor {
    config: LearnerConfig,
    member: Arc<Member>,
    kept: PathBuf,
}

impl Actor for LearnerActor {
    type Msg = Tracked<LearnerMessage>;
    /// Empty only while a slice is under way, and after one that failed.
    type State = Option<Box<Learner>>;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        let kept = kept_model(&self.kept).unwrap_or_else(|why| {
            // It is only advice: a new one will be trained.
            tracing::warn!(%why, "the model kept on disk is not used");
            None
        });
        if let Some(fact) = &kept {
            self.publish("model", fact.clone());
        }
        Ok(Some(Box::new(Learner::new(self.config.clone(), kept))))
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let LearnerMessage::Panic = message.open() {
            panic!("a fault was injected");
        }
        let mut learner = state.take().ok_or("the last slice failed")?;
        let (told, seen) = self.look();
        learner.dataset().retain_nodes(|node| told.iter().any(|(known, _)| *known == node));
        for (node, fact) in &told {
            learner.dataset().take(*node, fact);
        }
        // Arithmetic for a while: not on a thread that others wait for.
        let (learner, news) = tokio::task::spawn_blocking(move || {
            let news = learner.work(wall_now(), seen);
            (learner, news)
        })
        .await?;
        if let Some(fact) = news {
            self.keep_and_tell(fact).await;
        }
        self.publish("learner", learner.status());
        *state = Some(learner);
        Ok(())
    }
}

impl LearnerActor {
    /// Summaries of nodes, each in the node's own words, and the highest version of a model that any lead has heard of.
    fn look(&self) -> (Vec<(MemberId, LoadFact)>, u64) {
        self.member.commons.with_views(|views| {
            let nodes = views.iter().filter(|view| view.identity.cluster().is_some());
            let told = nodes.filter_map(|view| Some((view.identity.id, view.load()?.clone()))).collect();
            let gates = views.iter().filter_map(|view| view.gate());
            let seen = gates.map(|gate| gate.version.max(gate.trial.unwrap_or(0)));
            let published = views.iter().filter_map(|view| view.model()).map(|model| model.version);
            (told, seen.chain(published).max().unwrap_or(0))
        })
    }

    fn publish(&self, key: &str, fact: ModelFact) {
        self.member.commons.publish_fact(key, Fact::Model(Box::new(fact)));
    }

    async fn keep_and_tell(&self, fact: ModelFact) {
        self.publish("model", fact.clone());
        let best = |skip| fact.losses.iter().skip(skip).map(|(_, loss)| f64::from(*loss) / 1e6);
        let (ours, theirs) = (best(0).next().unwrap_or(0.0), best(1).fold(f64::INFINITY, f64::min));
        self.member.events.tell(Note {
            kind: EventType::Normal,
            reason: "ModelPublished",
            object_kind: "Model",
            object: format!("load-forecast/{}", fact.version),
            message: format!(
                "trained on {} windows of {} nodes; loss {ours:.4} against {theirs:.4} of the best baseline on windows \
                 it was not trained on",
                fact.windows, fact.nodes
            ),
        });
        let path = self.kept.clone();
        let kept = tokio::task::spawn_blocking(move || keep_model(&path, &fact)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "the model is not kept on disk");
        }
    }
}

/// The learner under supervision. It keeps its last model in `kept`.
#[must_use]
pub fn learner_child(
    config: LearnerConfig,
    member: &Arc<Member>,
    kept: PathBuf,
    policy: Policy,
) -> (ChildSpec, ChildRef<LearnerMessage>) {
    let period = Duration::from_millis(u64::from(config.step_ms / LOOKS_PER_STEP).clamp(20, 1_000));
    let member = Arc::clone(member);
    let (spec, child) = ChildSpec::tracked("learner", policy, 4, move || {
        (LearnerActor { config: config.clone(), member: Arc::clone(&member), kept: kept.clone() }, ())
    });
    let ticked = child.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            // A learner that is at work is asked again next time.
            let _ = ticked.try_send(LearnerMessage::Tick);
        }
    });
    (spec, child)
}
