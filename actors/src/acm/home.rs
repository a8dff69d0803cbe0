//! The home of applications as an actor of a member: how it is restored, and what happens around it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use codeco_protocol::api::EventType;
use codeco_protocol::gossip::Fact;
use codeco_protocol::ids::AppUid;
use futures::FutureExt as _;

use crate::clock::wall_now;
use crate::evidence::Note;
use crate::journal::Journal;
use crate::process::Member;
use crate::supervision::ChildRef;
use crate::swm::actor::{CoreMessage, Effects, Restore, Started, WRITER};
use crate::swm::home::{Home, HomeConfig, HomeInput, HomeNote, HomeOutput};
use crate::swm::telling::{AppGist, app_facts, apps_told};

/// The home's actor.
pub type HomeRef = ChildRef<CoreMessage<Home>>;

/// Restores the home from `home.journal` in the member's state folder.
#[must_use]
pub fn restore_home(state: &Path, member: &Arc<Member>, seed: u64) -> Restore<Home> {
    let path = state.join("home.journal");
    let mut home_config = HomeConfig::new(member.commons.own.id, seed);
    home_config.first_revision = wall_now().0 << 16;
    Arc::new(move || {
        let (path, home_config) = (path.clone(), home_config.clone());
        async move {
            let opened = tokio::task::spawn_blocking(move || Journal::open(&path, WRITER))
                .await
                .map_err(|e| e.to_string())?
                .map_err(|e| e.to_string())?;
            let core = Home::recover(home_config, &opened.records);
            Ok(Started { core, journal: opened.journal, outputs: Vec::new(), inputs: vec![HomeInput::Tick] })
        }
        .boxed()
    })
}

/// What happens around the home.
pub struct HomeEffects {
    /// The member it lives in.
    member: Arc<Member>,
    /// What was last told of each application.
    told: Mutex<BTreeMap<AppUid, AppGist>>,
}

impl HomeEffects {
    /// Around the home of `member`.
    #[must_use]
    pub fn new(member: Arc<Member>) -> Self {
        Self { member, told: Mutex::default() }
    }

    /// Others hear of the applications this member speaks for, and of those it keeps copies of.
    fn spread(&self, home: &Home) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let apps = apps_told(home);
        if *told == apps {
            return;
        }
        self.member.commons.set_home(home.apps().next().is_some());
        self.member.commons.publish(|state| {
            for uid in told.keys().filter(|uid| !apps.contains_key(uid)) {
                state.remove(&format!("app/{uid}"));
            }
            for fact in app_facts(home, |uid| told.get(uid) != apps.get(uid)) {
                self.member.learn_app(fact.uid, &fact.name);
                state.set(&format!("app/{}", fact.uid), Fact::App(Box::new(fact)));
            }
        });
        self.member.commons.tell_soon();
        *told = apps;
    }
}

impl Effects<Home> for HomeEffects {
    fn carry_out(&self, output: HomeOutput) {
        match output {
            HomeOutput::Decided(decision) => {
                self.member.decisions.keep(&decision);
            }
            HomeOutput::Note(note) => self.member.events.tell(self.note(note)),
            HomeOutput::Journal(_) | HomeOutput::Send { .. } => {}
        }
    }

    fn observe(&self, home: &Home) {
        self.member.readiness.met("home");
        self.spread(home);
    }
}

impl HomeEffects {
    fn note(&self, note: HomeNote) -> Note {
        use EventType::{Normal, Warning};
        let replica = |kind, reason, replica: &codeco_protocol::ids::ReplicaId, message| Note {
            kind,
            reason,
            object_kind: "Replica",
            object: self.member.replica_name(replica),
            message,
        };
        let app = |reason, name: String, message| Note {
            kind: Normal,
            reason,
            object_kind: "App",
            object: name,
            message,
        };
        match note {
            HomeNote::Applied(uid, name, generation) => {
                app("Applied", name.to_string(), format!("specification {generation} of app {uid} was taken"))
            }
            HomeNote::Removed(_, namespace, name) => app(
                "Removed",
                name.to_string(),
                format!("every cluster has given back its replicas of {namespace}/{name}"),
            ),
            HomeNote::Accepted(id, cluster, node) => {
                replica(Normal, "Accepted", &id, format!("cluster {cluster} runs it on node {node}"))
            }
            HomeNote::HandedBack(id, cluster, why) => {
                replica(Normal, "HandedBack", &id, format!("cluster {cluster} gave it back: {why}"))
            }
            HomeNote::ClusterLost(id, cluster, true) => replica(
                Warning,
                "ClusterLost",
                &id,
                format!("cluster {cluster} is not heard, and has stopped it: it may start elsewhere"),
            ),
            HomeNote::ClusterLost(id, cluster, false) => replica(
                Warning,
                "ClusterLost",
                &id,
                format!("cluster {cluster} is not heard, and may run it: a second copy may start elsewhere"),
            ),
            HomeNote::Reconciled(id, kept, dropped) => replica(
                Normal,
                "Reconciled",
                &id,
                format!("of two copies the one in {kept} stays; the one in {dropped} is stopped"),
            ),
            HomeNote::AdoptedApp(uid, name, before) => Note {
                kind: Warning,
                reason: "AppAdopted",
                object_kind: "App",
                object: name.to_string(),
                message: format!(
                    "its home {} has been silent for adoptAfter: this member speaks for app {uid} from now on; what runs is \
                     left alone",
                    before.owner
                ),
            },
            HomeNote::NotAdopted(uid, name) => Note {
                kind: Warning,
                reason: "NotAdopted",
                object_kind: "App",
                object: name.to_string(),
                message: format!(
                    "its home has been silent for adoptAfter, but a service of app {uid} is fenced: nobody else may speak \
                     for it, and it stays as it is until its home is back"
                ),
            },
            HomeNote::EndWaits(uid, name, members) => Note {
                kind: Warning,
                reason: "DeletionWaits",
                object_kind: "App",
                object: name.to_string(),
                message: format!(
                    "every cluster has given back its replicas of app {uid}, but members that could adopt it have yet to hear \
                     of its deletion: {}; those that are gone for good: `codeco node forget`",
                    members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                ),
            },
            HomeNote::GaveUp(uid, name, epoch) => Note {
                kind: Normal,
                reason: "HomeGaveUp",
                object_kind: "App",
                object: name.to_string(),
                message: format!(
                    "{} has adopted app {uid} while this member was away, and stays its home: epoch {}",
                    epoch.owner, epoch.number
                ),
            },
            HomeNote::BrakeEngaged(missing) => Note {
                kind: Warning,
                reason: "BrakeEngaged",
                object_kind: "Home",
                object: self.member.name.clone(),
                message: format!(
                    "{} of {} clusters are silent at once, so this home may be the one that is cut off: none counts as \
                     lost until enough are heard again, or an operator says `codeco brake release CLUSTER`",
                    missing.silent, missing.of
                ),
            },
            HomeNote::BrakeReleased => Note {
                kind: Normal,
                reason: "BrakeReleased",
                object_kind: "Home",
                object: self.member.name.clone(),
                message: "enough clusters are heard again: what is still silent counts as lost in its time"
                    .into(),
            },
            HomeNote::Unplaceable(id, why) => {
                replica(Warning, "Unplaceable", &id, format!("no cluster can run it: {why}"))
            }
        }
    }
}
