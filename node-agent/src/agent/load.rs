//! PDLC on a node: its load is measured and remembered; where it leads, forecasts are made, judged, and given to the lead.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use codeco_actors::clock::{boot_now, wall_now};
use codeco_actors::evidence::Note;
use codeco_actors::pdlc::history::{FINE_PER_STEP, History, Measured, thousandths};
use codeco_actors::pdlc::judge::{Judge, JudgeNote, Learning, Seen};
use codeco_actors::pdlc::sampler::Sampler;
use codeco_actors::pdlc::store::{HistoryFile, keep_model, kept_model};
use codeco_actors::process::{Member, PeriodicMessage, periodic_child};
use codeco_actors::supervision::{ChildRef, ChildSpec, Policy};
use codeco_actors::swm::actor::CoreMessage;
use codeco_actors::swm::advice::Advice;
use codeco_actors::swm::election::elector::{Elector, ElectorInput};
use codeco_protocol::api::EventType;
use codeco_protocol::gossip::{Fact, LoadFact, ModelFact};
use codeco_protocol::ids::{ClusterName, MemberId};
use codeco_protocol::units::{Micros, WallTime};
use futures::FutureExt as _;

use super::options::AgentConfig;
use super::watch::{AgentWatcher, Seat};

/// Shortest pause between two looks.
const LOOK_MIN: Duration = Duration::from_millis(20);
/// Longest pause between two looks at what others have told.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// Advice is good for so many looks.
const ADVICE_LOOKS: u64 = 4;
/// And at least for this long: a busy machine is no dead actor.
const ADVICE_MIN: Micros = Micros::from_secs(3);

type Child = (&'static str, (ChildSpec, ChildRef<PeriodicMessage>));
type ElectorRef = ChildRef<CoreMessage<Elector>>;

/// The actors of PDLC on this node: one that measures, and one that forecasts and judges while this node leads.
pub(super) fn children(
    config: &AgentConfig,
    cluster: &ClusterName,
    member: &Arc<Member>,
    watcher: &AgentWatcher,
    elector: &ElectorRef,
    policy: Policy,
) -> Vec<Child> {
    let judge = Judge::new(config.learning, cluster.clone(), config.load_step_ms, wall_now());
    let elector = elector.clone();
    let pdlc = pdlc(config, judge, member, watcher.seat(), elector, policy);
    if config.learning == Learning::Off {
        // Only says so, while it leads.
        return vec![("pdlc", pdlc)];
    }
    vec![("load", load(config, member, policy)), ("pdlc", pdlc)]
}

struct Meter {
    sampler: Sampler,
    history: History,
    file: Option<HistoryFile>,
    told: u64,
}

impl Meter {
    fn new(config: &AgentConfig) -> Self {
        let path = config.state.join("load-history");
        let (file, history) = match HistoryFile::open(&path, config.load_step_ms) {
            Ok((file, history)) => (Some(file), history),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the history of loads is kept in memory only");
                (None, History::new(config.load_step_ms))
            }
        };
        Self { sampler: Sampler::new(config.load_replay.clone()), history, file, told: 0 }
    }

    /// Measures, and returns what is news for others.
    fn look(&mut self, now: WallTime, member: &Member) -> Option<LoadFact> {
        let measured = self.sampler.sample(self.history.step_of(now));
        if let Some((cpu, memory)) = measured.and_then(|(c, m)| Some((thousandths(c)?, thousandths(m)?))) {
            let (promised_cpu, promised_memory) = promised(member).unwrap_or_default();
            let measured = Measured { cpu, memory, promised_cpu, promised_memory };
            let writes = self.history.add(now, measured);
            if let Some(file) = &self.file
                && let Err(error) = file.write(&writes)
            {
                tracing::warn!(%error, "the history of loads is not kept on disk any more");
                self.file = None;
            }
        }
        let fact = self.history.summary(now).filter(|fact| fact.newest != self.told)?;
        self.told = fact.newest;
        Some(fact)
    }
}

fn promised(member: &Member) -> Option<(u16, u16)> {
    let node = member.fact().node?;
    let share = |all: f64, free: f64| thousandths((all - free) / all);
    let cpu = share(node.capacity.cpu.as_f64(), node.free.cpu.as_f64())?;
    Some((cpu, share(node.capacity.memory.as_f64(), node.free.memory.as_f64())?))
}

fn load(
    config: &AgentConfig,
    member: &Arc<Member>,
    policy: Policy,
) -> (ChildSpec, ChildRef<PeriodicMessage>) {
    let period = Duration::from_millis(u64::from(config.load_step_ms) / FINE_PER_STEP).max(LOOK_MIN);
    let (meter, member) = (Arc::new(Mutex::new(Meter::new(config))), Arc::clone(member));
    periodic_child("load", policy, period, move || {
        let (meter, member) = (Arc::clone(&meter), Arc::clone(&member));
        async move {
            // Reads of /proc and writes to the page cache: short, and nobody else has the lock.
            let news = meter.lock().unwrap_or_else(PoisonError::into_inner).look(wall_now(), &member);
            if let Some(fact) = news {
                member.commons.publish_fact("load", Fact::Load(Box::new(fact)));
            }
            Ok(())
        }
        .boxed()
    })
}

/// The model this node knows best: what hubs publish, and what was kept from earlier.
struct Shelf {
    path: PathBuf,
    best: Option<ModelFact>,
}

impl Shelf {
    fn open(path: &Path) -> Self {
        let best = kept_model(path).unwrap_or_else(|why| {
            tracing::warn!(%why, "the model kept on disk is not used");
            None
        });
        Self { path: path.to_owned(), best }
    }

    /// Only hubs publish models. A damaged one is passed to the judge, which says so, but not kept.
    fn look(&mut self, member: &Member) -> Option<ModelFact> {
        let have = self.best.as_ref().map_or(0, |fact| fact.version);
        let newer = member.commons.with_views(|views| {
            let hubs = views.iter().filter(|view| view.identity.is_hub());
            let newest = hubs.filter_map(|view| view.model()).max_by_key(|model| model.version);
            newest.filter(|model| model.version > have).cloned()
        });
        let Some(newer) = newer else { return self.best.clone() };
        if codeco_actors::pdlc::forecaster::Forecaster::decode(&newer).is_ok() {
            if let Err(error) = keep_model(&self.path, &newer) {
                tracing::warn!(%error, "the model is not kept on disk");
            }
            self.best = Some(newer.clone());
        }
        Some(newer)
    }
}

fn pdlc(
    config: &AgentConfig,
    judge: Judge,
    member: &Arc<Member>,
    seat: Arc<Seat>,
    elector: ElectorRef,
    policy: Policy,
) -> (ChildSpec, ChildRef<PeriodicMessage>) {
    let step = Duration::from_millis(config.load_step_ms.into());
    let period = (step / 4).clamp(LOOK_MIN, LOOK_MAX);
    let off = config.learning == Learning::Off;
    let good_for = Micros::from(period).0 * ADVICE_LOOKS;
    let state = Arc::new(Mutex::new((judge, Shelf::open(&config.state.join("model")))));
    let member = Arc::clone(member);
    periodic_child("pdlc", policy, period, move || {
        let (state, member, elector) = (Arc::clone(&state), Arc::clone(&member), elector.clone());
        let leads = seat.office().is_some();
        async move {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let (judge, shelf) = &mut *state;
            let model = if off { None } else { shelf.look(&member) };
            if leads {
                let advice = advise(judge, model.as_ref(), &member, good_for.max(ADVICE_MIN.0));
                // An elector that is being restarted decides without advice until the next look.
                let _ = elector.try_send(CoreMessage::Input(ElectorInput::Advice(advice)));
            } else {
                // Another one speaks for this cluster.
                member.commons.publish(|state| {
                    state.remove("gate");
                });
            }
            Ok(())
        }
        .boxed()
    })
}

fn advise(judge: &mut Judge, model: Option<&ModelFact>, member: &Member, good_for: u64) -> Advice {
    let now = wall_now();
    let told = summaries(member);
    let seen: Vec<Seen<'_>> =
        told.iter().map(|(node, name, fact)| Seen { node: *node, name, fact }).collect();
    for (kind, message) in judge.observe(now, &seen, model) {
        tell(member, kind, message);
    }
    member.commons.publish_fact("gate", Fact::Gate(Box::new(judge.fact())));
    let peaks = judge.peaks(now);
    Advice {
        model: judge.label(),
        active: peaks.is_some(),
        peaks: peaks.unwrap_or_default(),
        until: boot_now() + Micros(good_for),
    }
}

/// Summaries of the nodes of this cluster, each in the node's own words; its own included.
fn summaries(member: &Member) -> Vec<(MemberId, String, LoadFact)> {
    let commons = &member.commons;
    let mut told: Vec<_> = commons.with_views(|views| {
        let ours = views.iter().filter(|view| view.identity.cluster() == commons.own.cluster());
        ours.filter_map(|view| {
            let name = view.member().map_or_else(|| view.identity.to_string(), |fact| fact.name.clone());
            Some((view.identity.id, name, view.load()?.clone()))
        })
        .collect()
    });
    if let Some(Fact::Load(fact)) = commons.own_fact("load") {
        told.push((commons.own.id, member.name.clone(), *fact));
    }
    told
}

fn tell(member: &Member, kind: JudgeNote, message: String) {
    let (kind, reason) = match kind {
        JudgeNote::Active => (EventType::Normal, "ModelActive"),
        JudgeNote::RolledBack => (EventType::Warning, "ModelRolledBack"),
        JudgeNote::Refused => (EventType::Warning, "ModelRefused"),
        JudgeNote::Nonsense => (EventType::Warning, "SummaryRefused"),
    };
    let object = member.commons.own.cluster().map_or_else(String::new, ToString::to_string);
    member.events.tell(Note { kind, reason, object_kind: "Cluster", object, message });
}
