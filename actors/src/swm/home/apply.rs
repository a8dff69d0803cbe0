//! Applying and deleting applications.

use codeco_protocol::ids::{AppName, AppUid, Namespace, ReplicaId};
use codeco_protocol::token::Epoch;
use codeco_protocol::units::{BootTime, WallTime};
use codeco_protocol::workload::ChannelSpec;

use super::constraints::leaders_of;
use super::{APPS_MAX, App, AppSpec, Home, HomeNote, HomeOutput, HomeRecord};

/// What applying did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The application.
    pub uid: AppUid,
    /// Number of its specification.
    pub generation: u64,
    /// Whether it is new.
    pub created: bool,
    /// Whether anything changed.
    pub changed: bool,
}

/// Why an application was not taken. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It is being deleted.
    #[error(
        "app {namespace}/{name} is still being deleted: not every cluster has given its replicas back; wait until \
         `codeco get apps` no longer lists it, then apply again"
    )]
    Deleting {
        /// Namespace.
        namespace: Namespace,
        /// Name.
        name: AppName,
    },
    /// The home is full.
    #[error("this hub already speaks for {APPS_MAX} applications; delete some, or apply to another hub")]
    Full,
}

/// Why an application was not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("app {namespace}/{name} is not known here")]
pub struct DeleteError {
    /// Namespace.
    pub namespace: Namespace,
    /// Name.
    pub name: AppName,
}

impl Home {
    /// Takes a specification: a new application, or a newer number for a known one. Durable once the outputs' journal
    /// records are.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing has changed then.
    pub fn apply(
        &mut self,
        now: BootTime,
        wall: WallTime,
        mut spec: AppSpec,
        out: &mut Vec<HomeOutput>,
    ) -> Result<Applied, ApplyError> {
        let (namespace, name) = (spec.context.namespace.clone(), spec.context.name.clone());
        let known = self.find(&namespace, &name).map(|(uid, app)| (uid, app.clone()));
        if known.is_none() && self.apps.len() >= APPS_MAX {
            return Err(ApplyError::Full);
        }
        let Some((uid, app)) = known else {
            let uid = spec.context.uid;
            for service in &mut spec.services {
                service.spec.generation = 1;
            }
            let epoch = Epoch { number: 1, owner: self.config.id };
            self.record(HomeRecord::Applied { app: uid, epoch, generation: 1, spec, created: wall }, out);
            self.after_apply(now, uid, 1, out);
            return Ok(Applied { uid, generation: 1, created: true, changed: true });
        };
        if app.deleting {
            return Err(ApplyError::Deleting { namespace, name });
        }
        spec.context.uid = uid;
        let generation = app.generation.saturating_add(1);
        number_services(&app, &mut spec, generation);
        let same = spec.services == app.spec.services && spec.context == app.spec.context;
        if same {
            return Ok(Applied { uid, generation: app.generation, created: false, changed: false });
        }
        let record =
            HomeRecord::Applied { app: uid, epoch: app.epoch, generation, spec, created: app.created };
        self.record(record, out);
        self.after_apply(now, uid, generation, out);
        Ok(Applied { uid, generation, created: false, changed: true })
    }

    fn after_apply(&mut self, now: BootTime, uid: AppUid, generation: u64, out: &mut Vec<HomeOutput>) {
        let name = self.apps.get(&uid).map(|app| app.spec.context.name.clone());
        out.extend(name.map(|name| HomeOutput::Note(HomeNote::Applied(uid, name, generation))));
        self.match_replicas();
        self.work(now, out);
    }

    /// Asks for every mandate back. The application's record stays until the last has come.
    ///
    /// # Errors
    /// [`DeleteError`] if it is not known.
    pub fn delete(
        &mut self,
        now: BootTime,
        namespace: &Namespace,
        name: &AppName,
        out: &mut Vec<HomeOutput>,
    ) -> Result<AppUid, DeleteError> {
        let Some((uid, app)) = self.find(namespace, name) else {
            return Err(DeleteError { namespace: namespace.clone(), name: name.clone() });
        };
        if !app.deleting {
            self.record(HomeRecord::Deleting { app: uid }, out);
            if let Some(app) = self.apps.get_mut(&uid) {
                app.bidding = None;
            }
        }
        self.work(now, out);
        Ok(uid)
    }

    pub(super) fn record(&mut self, record: HomeRecord, out: &mut Vec<HomeOutput>) {
        self.replay(&record);
        out.push(HomeOutput::Journal(record));
    }

    /// Every wanted replica has an entry; entries nobody wants and nobody has go.
    pub(super) fn match_replicas(&mut self) {
        for app in self.apps.values_mut() {
            if app.deleting {
                app.replicas.retain(|_, replica| replica.mandate.is_some() || !replica.lost.is_empty());
                continue;
            }
            app.add_wanted();
        }
    }

    /// Fewer copies are wanted: the others are asked for, at a bounded pace, so that whoever has written a wrong number can
    /// still take it back. A deletion cannot be taken back, so nothing is gained by holding it up.
    pub(super) fn recall_what_is_unwanted(&mut self, now: BootTime, out: &mut Vec<HomeOutput>) {
        let mut unwanted = Vec::new();
        for (uid, app) in &self.apps {
            for ((service, index), replica) in &app.replicas {
                let held = replica.mandate.iter().chain(&replica.lost);
                for held in held.filter(|held| !held.recalling && !app.wants(service, *index)) {
                    let id = ReplicaId { app: *uid, service: service.clone(), index: *index };
                    unwanted.push((app.deleting, HomeRecord::Recalling { replica: id, mandate: held.id }));
                }
            }
        }
        for (deleting, record) in unwanted {
            if deleting || self.brake.pace.step(now) {
                self.record(record, out);
            }
        }
    }

    pub(super) fn remove_what_is_back(&mut self, out: &mut Vec<HomeOutput>) {
        let gone: Vec<AppUid> = self
            .apps
            .iter()
            .filter(|(_, app)| {
                app.deleting
                    && app.replicas.values().all(|r| r.mandate.is_none() && r.lost.is_empty())
                    && self.all_know_of_the_end(app)
            })
            .map(|(uid, _)| *uid)
            .collect();
        for app in gone {
            let Some(context) = self.apps.get(&app).map(|a| a.spec.context.clone()) else { continue };
            let retired = self.apps.get(&app).is_some_and(|app| app.retired);
            if !retired {
                self.drop_copies(app, out);
            }
            self.record(HomeRecord::Removed { app }, out);
            if !retired {
                out.push(HomeOutput::Note(HomeNote::Removed(app, context.namespace, context.name)));
            }
        }
    }
}

impl App {
    pub(super) fn add_wanted(&mut self) {
        for service in &self.spec.services {
            for index in 0..service.replicas {
                self.replicas.entry((service.name.clone(), index)).or_default();
            }
        }
    }

    /// Whether the specification asks for that copy.
    #[must_use]
    pub fn wants(&self, service: &codeco_protocol::ids::ServiceName, index: u32) -> bool {
        !self.deleting && self.spec.services.iter().any(|s| s.name == *service && index < s.replicas)
    }
}

/// A service that did not change keeps its number, so that its copies run on.
pub(super) fn number_services(app: &App, spec: &mut AppSpec, generation: u64) {
    let services = spec.services.clone();
    for service in &mut spec.services {
        service.spec.generation = generation;
        let before = app.spec.services.iter().find(|s| s.name == service.name);
        if let Some(before) = before {
            service.spec.generation = before.spec.generation;
            let selectors = |s: &super::ServiceSpec| (s.node_selector.clone(), s.cluster_selector.clone());
            let moved = |s: &super::ServiceSpec| {
                app.spec
                    .services
                    .iter()
                    .find(|b| b.name == s.name)
                    .is_some_and(|b| selectors(b) != selectors(s))
            };
            let follows = leaders_of(&services, &spec.context.channels, service).any(moved);
            let channels = reservations(&spec.context.channels, &service.name)
                != reservations(&app.spec.context.channels, &service.name);
            if service.spec != before.spec || moved(service) || follows || channels {
                service.spec.generation = generation;
            }
        }
    }
}

/// What the ASSURED channels of a service ask for: what is reserved for its copies when they are placed.
fn reservations<'a>(
    channels: &'a [ChannelSpec],
    service: &'a codeco_protocol::ids::ServiceName,
) -> Vec<&'a ChannelSpec> {
    channels.iter().filter(|c| c.assured && (c.from == *service || c.to == *service)).collect()
}
