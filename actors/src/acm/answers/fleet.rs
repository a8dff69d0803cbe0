//! The fleet as the API sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{boot_now, wall_now};
use crate::evidence::{Note, profile_on_wire};
use crate::fabric::{InspectError, InspectRequest, inspect};
use crate::mdm::selected;
use crate::process::{Faults, Member, Reach};
use crate::swm::actor::ask;
use crate::swm::home::{AppSpec, ApplyError, ServiceSpec};
use crate::swm::ledger::Upkeep;
use async_trait::async_trait;
use codeco_protocol::api::{
    ActorView, AppView, CaView, CertView, ClusterView, CodecoApp, DecisionView, DoctorView, ErrorBody,
    ErrorCode, EventType, EventView, LinkView, List, ModelView, NodeView, PlanView, ReplicaView, ResolvedApp,
    RevokedView, Selector, SelectorError, codes,
};
use codeco_protocol::gossip::{AppFact, View};
use codeco_protocol::identity::Registrar;
use codeco_protocol::ids::{
    AppName, AppUid, ClusterName, Identity, MemberId, Namespace, NodeName, ReplicaId, Role,
};
use codeco_protocol::messages::AppContext;
use codeco_protocol::token::Term;
use codeco_protocol::transport::PeerConnection;
use futures::future::join_all;
use serde::de::DeserializeOwned;

use super::certs::CertAuthority;
use super::intents::without_effect;
use super::naming::Told;
use super::views::{AppSnapshot, Copies, app_view, cluster_views, node_view, replica_views, snapshot};
use crate::acm::api::{BrakeView, FaultWish};
use crate::acm::apps::ask_apps;
use crate::acm::fleet::{ApiError, Applied, Filter, Fleet, LogQuery, NewToken};
use crate::acm::home::HomeRef;

/// How long an apply waits for a second member to hold the specification.
const DURABLE_WAIT: Duration = Duration::from_secs(3);
/// Longest life of a join token.
const TOKEN_LIFE_MAX: u64 = 30 * 24 * 3_600;

/// What a member knows, asks of others, and does for people.
pub struct MemberFleet {
    /// The member.
    pub member: Arc<Member>,
    /// Its home of applications.
    pub home: HomeRef,
    /// Who makes join tokens, if this member is an authority.
    pub registrar: Option<Registrar>,
    /// Who certifies and revokes, if this member is an authority.
    pub authority: Option<Arc<dyn CertAuthority>>,
    /// Faults of this process.
    pub faults: Faults,
}

pub(super) fn error(
    status: u16,
    code: ErrorCode,
    object: Option<String>,
    message: String,
    next: &str,
) -> ApiError {
    let body =
        ErrorBody { code: code.word().into(), message, object, next: Some(next.into()), details: Vec::new() };
    ApiError { status, body }
}

impl MemberFleet {
    async fn apps_now(&self) -> Result<Vec<AppSnapshot>, ApiError> {
        ask(&self.home, |home, _, _| snapshot(home)).await.map_err(|e| {
            let next = "wait a moment; `codeco get events` says why the hub's home does not answer";
            error(
                503,
                codes::HOME_UNAVAILABLE,
                None,
                format!("the hub cannot read its applications now: {e}"),
                next,
            )
        })
    }

    /// Applications of this home, and of every other one that can be asked. What is not included is said.
    async fn all_apps(&self) -> Result<(Vec<AppSnapshot>, Vec<String>), ApiError> {
        let mut apps = self.apps_now().await?;
        let (commons, now) = (&self.member.commons, boot_now());
        let homes: Vec<(Identity, String, Vec<AppFact>)> = commons.with_views(|views| {
            let with_apps = views.iter().filter(|view| view.apps().next().is_some());
            with_apps
                .map(|view| {
                    let name = view.member().map_or_else(String::new, |member| member.name.clone());
                    let name = view.identity.cluster().map_or(name.clone(), |c| format!("{c}/{name}"));
                    (view.identity.clone(), name, view.apps().cloned().collect())
                })
                .collect()
        });
        let asked = homes.into_iter().map(|(identity, name, facts)| async move {
            let age = commons.view(identity.id).map_or(0, |view| view.age(now).0 / 1_000_000);
            let answer = match commons.link(identity.id) {
                Some(link) => ask_apps(&link).await,
                None => Err(format!("is not connected, and was last heard {age} s ago")),
            };
            (identity, name, facts, answer)
        });
        let mut warnings = Vec::new();
        let mut copies: BTreeMap<AppUid, (AppSnapshot, String)> = BTreeMap::new();
        let mut missing = Vec::new();
        let mut spoken: BTreeSet<MemberId> = BTreeSet::from([commons.own.id]);
        let kept_here = ask(&self.home, |home, _, _| {
            home.copies().filter_map(|(uid, copy)| Some((uid, copy.app(uid)?))).collect::<Vec<_>>()
        });
        let here = (
            commons.own.clone(),
            self.member.name.clone(),
            Vec::new(),
            Ok(kept_here.await.unwrap_or_default()),
        );
        for (identity, name, facts, answer) in join_all(asked).await.into_iter().chain([here]) {
            match answer {
                Ok(list) => {
                    spoken.insert(identity.id);
                    for (uid, app) in list {
                        let snapshot =
                            AppSnapshot { uid, app, changes: Vec::new(), home: Some(name.clone()) };
                        if snapshot.app.epoch.owner == identity.id {
                            apps.push(snapshot);
                        } else {
                            copies.insert(uid, (snapshot, name.clone()));
                        }
                    }
                }
                Err(why) => missing.push((identity, name, facts, why)),
            }
        }
        // Where a home has yet to hear that another one has adopted an application, the higher epoch speaks for it.
        apps.sort_by_key(|known| (known.uid, std::cmp::Reverse(known.app.epoch)));
        apps.dedup_by_key(|known| known.uid);
        // A copy counts only where the home itself cannot be asked.
        for (uid, (mut snapshot, keeper)) in copies {
            let owner = snapshot.app.epoch.owner;
            if spoken.contains(&owner) || apps.iter().any(|known| known.uid == uid) {
                continue;
            }
            let context = &snapshot.app.spec.context;
            warnings.push(format!(
                "the home of {}/{} cannot be asked: shown is the copy that {keeper} keeps",
                context.namespace, context.name
            ));
            snapshot.home = Some(format!("{owner} (copy at {keeper})"));
            apps.push(snapshot);
        }
        for (identity, name, facts, why) in missing {
            let lost = facts.iter().filter(|app| app.epoch.owner == identity.id);
            let lost = lost.filter(|app| apps.iter().all(|known| known.uid != app.uid));
            let names: Vec<String> = lost.map(|app| format!("{}/{}", app.namespace, app.name)).collect();
            if !names.is_empty() {
                warnings.push(format!("home {name} of {}: {why}: not included", names.join(", ")));
            }
        }
        Ok((apps, warnings))
    }

    pub(super) fn nodes_now(&self, filter: &Filter) -> Vec<NodeView> {
        let (commons, now) = (&self.member.commons, boot_now());
        let own = commons.own_view(now);
        let mut nodes: Vec<NodeView> = commons.with_views(|views| {
            let all = views.iter().chain(std::iter::once(&own));
            all.filter_map(|view| node_view(commons, view, now)).collect()
        });
        nodes.retain(|node| {
            filter.cluster.as_ref().is_none_or(|cluster| node.cluster == *cluster)
                && filter.node.as_ref().is_none_or(|name| node.name == *name)
        });
        nodes.sort_by(|a, b| (&a.cluster, &a.name).cmp(&(&b.cluster, &b.name)));
        nodes
    }

    /// Asks every connected node that matches, all at once; those that do not answer are named.
    pub(super) async fn ask_nodes<T: DeserializeOwned + Told>(
        &self,
        filter: &Filter,
        request: InspectRequest,
    ) -> (Vec<T>, Vec<String>) {
        let mut warnings = Vec::new();
        let mut questions = Vec::new();
        for node in self.nodes_now(filter) {
            if node.id == self.member.commons.own.id {
                continue;
            }
            match self.member.commons.link(node.id) {
                Some(link) => questions.push(ask_one(link, node, &request)),
                None => warnings
                    .push(format!("node {}/{} is not connected: not included", node.cluster, node.name)),
            }
        }
        let mut items = Vec::new();
        for answer in join_all(questions).await {
            match answer {
                Ok(list) => items.extend::<Vec<T>>(list),
                Err(warning) => warnings.push(warning),
            }
        }
        (items, warnings)
    }

    /// Asks a node, which may be this very member.
    pub(super) async fn inspect_node(
        &self,
        id: MemberId,
        request: InspectRequest,
    ) -> Result<Vec<u8>, InspectError> {
        let commons = &self.member.commons;
        if id == commons.own.id {
            let inspector = commons
                .inspector
                .get()
                .ok_or_else(|| InspectError::Unreachable("is still starting".into()))?;
            return inspector.answer(&commons.own, request).await.map_err(InspectError::Refused);
        }
        let link = commons.link(id).ok_or_else(|| InspectError::Unreachable("is not connected".into()))?;
        inspect(&link, &request).await
    }

    /// What this member itself tells, where it is asked of.
    fn told_here<T: Told>(&self, filter: &Filter, mut items: Vec<T>) -> Vec<T> {
        match self.member.commons.own.cluster() {
            None if filter.cluster.is_none() && filter.node.is_none() => items,
            None => Vec::new(),
            Some(cluster) => {
                let of_cluster = filter.cluster.as_ref().is_none_or(|wanted| wanted == cluster);
                let of_node = filter.node.as_ref().is_none_or(|node| node.as_str() == self.member.name);
                if !of_cluster || !of_node {
                    return Vec::new();
                }
                items.iter_mut().for_each(|item| item.told_by(cluster, &self.member.name));
                items
            }
        }
    }

    /// How members are called by people, by the identity in their certificates: who has just joined is known to others
    /// by that alone.
    pub(super) fn member_names(&self) -> BTreeMap<String, String> {
        let identity = |identity: &Identity| identity.to_string().trim_start_matches('/').to_owned();
        let own = [(identity(&self.member.commons.own), self.member.name.clone())];
        let names = self.member.commons.with_views(|views| {
            let named = views.iter().filter_map(|view| {
                let name = &view.member()?.name;
                let full = view.identity.cluster().map_or(name.clone(), |c| format!("{c}/{name}"));
                Some((identity(&view.identity), full))
            });
            named.collect::<Vec<_>>()
        });
        own.into_iter().chain(names).collect()
    }

    pub(super) fn find_node(&self, member: &str) -> Result<(MemberId, String), ApiError> {
        let nodes = self.nodes_now(&Filter::default());
        let found: Vec<&NodeView> = nodes
            .iter()
            .filter(|node| {
                format!("{}/{}", node.cluster, node.name) == member || node.name.as_str() == member
            })
            .collect();
        match found.as_slice() {
            [node] => Ok((node.id, format!("{}/{}", node.cluster, node.name))),
            [] => Err(error(
                404,
                codes::MEMBER_NOT_FOUND,
                Some(member.into()),
                format!("member {member} is not known here"),
                "`codeco get nodes` lists the members; write a node as CLUSTER/NAME",
            )),
            _ => Err(error(
                422,
                codes::MEMBER_AMBIGUOUS,
                Some(member.into()),
                format!("{} clusters have a node called {member}", found.len()),
                "write it as CLUSTER/NAME",
            )),
        }
    }

    /// The application in typed units, or what is wrong with it.
    pub(super) fn resolved(&self, app: &CodecoApp) -> Result<ResolvedApp, ApiError> {
        app.resolve(1).map_err(|details| {
            let message = details.first().map_or_else(String::new, ToString::to_string);
            let object = Some(format!("app/{}", app.metadata.name));
            let next = Some("correct the fields named and apply again; nothing was changed".into());
            let code = codes::INVALID_MANIFEST.word().into();
            ApiError { status: 422, body: ErrorBody { code, message, object, next, details } }
        })
    }

    async fn apply_one(&self, app: &CodecoApp) -> Result<Applied, ApiError> {
        let resolved = self.resolved(app)?;
        let (namespace, name) = (resolved.namespace.clone(), resolved.name.clone());
        self.is_ours(&namespace, &name).await?;
        let mut warnings = without_effect(app, &resolved);
        warnings.extend(self.infeasible(app).await);
        let spec = app_spec(resolved, app);
        let applied = ask(&self.home, move |home, now, out| home.apply(now, wall_now(), spec, out))
            .await
            .map_err(|e| {
                let next = "apply again: doing so twice changes nothing";
                let object = Some(format!("app/{name}"));
                error(
                    503,
                    codes::HOME_UNAVAILABLE,
                    object,
                    format!("it is not known whether {name} was taken: {e}"),
                    next,
                )
            })?;
        let applied = applied.map_err(|e| {
            let code = match e {
                ApplyError::Deleting { .. } => codes::APP_DELETING,
                ApplyError::Full => codes::HUB_FULL,
            };
            error(409, code, Some(format!("app/{name}")), e.to_string(), "nothing was changed")
        })?;
        let action = match (applied.created, applied.changed) {
            (true, _) => "created",
            (false, true) => "configured",
            (false, false) => "unchanged",
        };
        let durable_on = self.wait_for_second(applied.uid).await;
        Ok(Applied {
            namespace,
            name,
            action: action.into(),
            generation: applied.generation,
            durable_on,
            warnings,
        })
    }

    /// An error if another member speaks for an application of this name, and this one does not.
    async fn is_ours(&self, namespace: &Namespace, name: &AppName) -> Result<(), ApiError> {
        let elsewhere = self.member.commons.with_views(|views| {
            let speaks = |app: &AppFact, view: &View| {
                app.namespace == *namespace && app.name == *name && app.epoch.owner == view.identity.id
            };
            views.iter().find(|view| view.apps().any(|app| speaks(app, view))).map(|view| {
                let name = view.member().map_or_else(String::new, |member| member.name.clone());
                (view.identity.cluster().map_or(name.clone(), |c| format!("{c}/{name}")), view.api())
            })
        });
        let Some((home, api)) = elsewhere else { return Ok(()) };
        // One that was given up, and still takes mandates back, is not.
        if self.apps_now().await?.iter().any(|known| {
            let context = &known.app.spec.context;
            context.namespace == *namespace && context.name == *name && !known.app.retired
        }) {
            return Ok(());
        }
        let address = api.map_or_else(String::new, |api| format!(", whose API is at https://{api}"));
        Err(error(
            409,
            codes::APP_ELSEWHERE,
            Some(format!("app/{name}")),
            format!("app {namespace}/{name} has its home at {home}{address}; nothing was changed here"),
            "ask that member, with a context that names it: `codeco context import`",
        ))
    }

    /// On how many members the specification is durable, once that is two, or nobody else could be reached in time.
    async fn wait_for_second(&self, uid: AppUid) -> u32 {
        let began = std::time::Instant::now();
        loop {
            let found = ask(&self.home, move |home, _, _| {
                let keepers =
                    home.apps().find(|(known, _)| *known == uid).map(|(_, app)| app.keepers().count());
                (keepers.unwrap_or(0), home.has_keepers())
            });
            let (keepers, reachable) = found.await.unwrap_or_default();
            let durable = 1 + u32::try_from(keepers).unwrap_or(u32::MAX - 1);
            if durable >= 2 || !reachable || began.elapsed() > DURABLE_WAIT {
                return durable;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn ask_one<T: DeserializeOwned + Told>(
    link: Arc<PeerConnection>,
    node: NodeView,
    request: &InspectRequest,
) -> Result<Vec<T>, String> {
    let name = format!("{}/{}", node.cluster, node.name);
    let bytes = inspect(&link, request).await.map_err(|e| format!("node {name}: {e}: not included"))?;
    let mut items: Vec<T> = serde_json::from_slice(&bytes)
        .map_err(|e| format!("node {name}: its answer cannot be read ({e}): not included"))?;
    items.iter_mut().for_each(|item| item.told_by(&node.cluster, node.name.as_str()));
    Ok(items)
}

/// The application as the home keeps it.
#[must_use]
pub fn app_spec(resolved: ResolvedApp, app: &CodecoApp) -> AppSpec {
    let pairs = |map: BTreeMap<String, String>| map.into_iter().collect::<Vec<_>>();
    let demands = super::intents::demands_of(&resolved);
    AppSpec {
        context: AppContext {
            uid: AppUid::random(),
            namespace: resolved.namespace,
            name: resolved.name,
            profile: profile_on_wire(resolved.profile),
            channels: resolved.channels,
            demands,
        },
        services: resolved
            .services
            .into_iter()
            .map(|service| ServiceSpec {
                name: service.name,
                replicas: service.replicas,
                spec: service.workload,
                node_selector: pairs(service.node_selector),
                cluster_selector: pairs(service.cluster_selector),
                max_unavailable: service.max_unavailable,
                on_reconnect: service.on_reconnect,
                spread: super::intents::limits_of(service.spread),
                regions: service.regions,
            })
            .collect(),
        manifest_json: serde_json::to_string(app).unwrap_or_default(),
    }
}

fn matches(filter: &Filter, snapshot: &AppSnapshot) -> bool {
    let context = &snapshot.app.spec.context;
    filter.namespace.as_ref().is_none_or(|namespace| context.namespace == *namespace)
        && filter.app.as_ref().is_none_or(|name| context.name == *name)
}

/// Whether a decision is about what is asked for: nodes decide about their own cluster, a home about every one that it
/// looked at.
fn wanted(filter: &Filter, decision: &DecisionView) -> bool {
    let of_namespace = filter.namespace.as_ref().is_none_or(|namespace| decision.namespace == *namespace);
    let replica = filter.replica.as_ref().is_none_or(|replica| {
        let short = format!("{}-{}", decision.service, decision.index);
        *replica == short || *replica == format!("{}/{short}", decision.app)
    });
    let cluster = filter.cluster.as_ref().is_none_or(|cluster| {
        let of = |name: &str| name.split('/').next() == Some(cluster.as_str());
        decision.chosen.as_deref().map_or_else(|| decision.candidates.iter().any(|c| of(&c.name)), of)
    });
    of_namespace && replica && cluster && filter.since.is_none_or(|since| decision.at.0 >= since)
}

fn newest<T>(items: &mut Vec<T>, limit: Option<u32>, newest_last: bool) {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    if newest_last && items.len() > limit {
        items.drain(..items.len() - limit);
    } else {
        items.truncate(limit);
    }
}

fn warned<T>(kind: &str, items: Vec<T>, warnings: Vec<String>) -> List<T> {
    List { warnings, ..List::new(kind, items) }
}

#[async_trait]
impl Fleet for MemberFleet {
    async fn apps(&self, filter: Filter) -> Result<List<AppView>, ApiError> {
        let (apps, warnings) = self.all_apps().await?;
        let copies = Copies::of(&self.member.commons, boot_now());
        let views = apps
            .iter()
            .filter(|snapshot| matches(&filter, snapshot))
            .map(|snapshot| app_view(snapshot, &replica_views(snapshot, &copies)))
            .collect();
        Ok(warned("App", views, warnings))
    }

    async fn apply(&self, apps: Vec<CodecoApp>) -> Result<Vec<Applied>, ApiError> {
        let mut applied = Vec::with_capacity(apps.len());
        for app in &apps {
            applied.push(self.apply_one(app).await?);
        }
        Ok(applied)
    }

    async fn plan(&self, apps: Vec<CodecoApp>) -> Result<Vec<PlanView>, ApiError> {
        let mut plans = Vec::with_capacity(apps.len());
        for app in &apps {
            plans.push(self.plan_one(app).await?);
        }
        Ok(plans)
    }

    async fn node_upkeep(
        &self,
        cluster: ClusterName,
        node: NodeName,
        upkeep: Upkeep,
    ) -> Result<(), ApiError> {
        self.set_upkeep(&cluster, &node, upkeep).await
    }

    async fn cluster_drain(&self, cluster: ClusterName, drained: bool) -> Result<(), ApiError> {
        self.set_cluster_drained(cluster, drained).await
    }

    async fn cluster_lost(&self, cluster: ClusterName) -> Result<u64, ApiError> {
        self.declare_cluster_lost(cluster).await
    }

    async fn release_brake(&self, cluster: ClusterName) -> Result<BrakeView, ApiError> {
        self.release_brakes(cluster).await
    }

    async fn replace_electorate(&self, cluster: ClusterName, with: NodeName) -> Result<(), ApiError> {
        self.impose_electorate(&cluster, &with).await
    }

    async fn delete(&self, namespace: Namespace, name: AppName) -> Result<(), ApiError> {
        let object = format!("app/{name}");
        self.is_ours(&namespace, &name).await?;
        let deleted = ask(&self.home, move |home, now, out| home.delete(now, &namespace, &name, out)).await;
        match deleted {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(error(
                404,
                codes::APP_NOT_FOUND,
                Some(object),
                e.to_string(),
                "`codeco get apps -A` lists what is known",
            )),
            Err(e) => {
                let message = format!("it is not known whether the deletion of {object} was taken: {e}");
                Err(error(
                    503,
                    codes::HOME_UNAVAILABLE,
                    Some(object),
                    message,
                    "delete again: doing so twice changes nothing",
                ))
            }
        }
    }

    async fn replicas(&self, filter: Filter) -> Result<List<ReplicaView>, ApiError> {
        let (apps, warnings) = self.all_apps().await?;
        let copies = Copies::of(&self.member.commons, boot_now());
        let mut rows: Vec<ReplicaView> = apps
            .iter()
            .filter(|snapshot| matches(&filter, snapshot))
            .flat_map(|snapshot| replica_views(snapshot, &copies))
            .collect();
        let decisions = self.member.decisions.list(None);
        for row in &mut rows {
            row.decision = decisions
                .iter()
                .find(|d| {
                    d.app == row.app
                        && d.namespace == row.namespace
                        && d.service == row.service
                        && d.index == row.index
                })
                .map(|d| d.id);
        }
        rows.retain(|row| filter.cluster.is_none() || row.cluster == filter.cluster);
        rows.retain(|row| filter.node.is_none() || row.node == filter.node);
        newest(&mut rows, filter.limit, false);
        Ok(warned("Replica", rows, warnings))
    }

    async fn nodes(&self, filter: Filter) -> Result<List<NodeView>, ApiError> {
        let mut nodes = self.nodes_now(&filter);
        if let Some(text) = &filter.selector {
            let selector: Selector =
                text.parse().map_err(|e: SelectorError| ApiError::invalid(e.to_string()))?;
            nodes.retain(|node| selected(node, &selector));
        }
        newest(&mut nodes, filter.limit, false);
        Ok(List::new("Node", nodes))
    }

    async fn clusters(&self, filter: Filter) -> Result<List<ClusterView>, ApiError> {
        let nodes = self.nodes_now(&Filter::default());
        let mut clusters = cluster_views(&self.member.commons, &nodes, boot_now());
        clusters.retain(|cluster| filter.cluster.as_ref().is_none_or(|name| cluster.name == *name));
        Ok(List::new("Cluster", clusters))
    }

    async fn events(&self, filter: Filter) -> Result<List<EventView>, ApiError> {
        let (mut events, warnings) = self.ask_nodes::<EventView>(&filter, InspectRequest::Events).await;
        events.extend(self.told_here(&filter, self.member.events.list()));
        if let Some(app) = &filter.app {
            let of_replicas = format!("{app}/");
            events.retain(|event| {
                event.object.name == app.as_str() || event.object.name.starts_with(&of_replicas)
            });
        }
        let names = self.member_names();
        for event in events.iter_mut().filter(|event| event.object.kind == "Member") {
            if let Some(name) = names.get(event.object.name.as_str()) {
                event.object.name.clone_from(name);
            }
        }
        events.sort_by_key(|event| event.at);
        newest(&mut events, filter.limit, true);
        Ok(warned("Event", events, warnings))
    }

    async fn decisions(&self, filter: Filter) -> Result<List<DecisionView>, ApiError> {
        let app = match &filter.app {
            Some(name) => {
                let default = Namespace::new("default")
                    .map_err(|e| error(500, codes::INTERNAL, None, e.to_string(), "report this"))?;
                Some((filter.namespace.clone().unwrap_or(default), name.clone()))
            }
            None => None,
        };
        let request = InspectRequest::Decisions(app.clone());
        let (mut decisions, mut warnings) = self.ask_nodes::<DecisionView>(&filter, request).await;
        warnings.extend(Reach::of(&self.member).alone());
        decisions.extend(self.told_here(&filter, self.member.decisions.list(app.as_ref())));
        decisions.retain(|decision| wanted(&filter, decision));
        decisions.sort_by_key(|decision| std::cmp::Reverse(decision.at));
        newest(&mut decisions, filter.limit, false);
        Ok(warned("Decision", decisions, warnings))
    }

    async fn actors(&self, filter: Filter) -> Result<List<ActorView>, ApiError> {
        let (nodes, warnings) = self.ask_nodes::<ActorView>(&filter, InspectRequest::Actors).await;
        let mut actors = Vec::new();
        actors.extend(self.told_here(&filter, self.member.actor_views()));
        actors.extend(nodes);
        Ok(warned("Actor", actors, warnings))
    }

    async fn models(&self, filter: Filter) -> Result<List<ModelView>, ApiError> {
        let mut rows = crate::pdlc::views::model_views(&self.member.commons, &self.member.name, boot_now());
        rows.retain(|row| filter.cluster.is_none() || row.cluster == filter.cluster);
        Ok(List::new("Model", rows))
    }

    async fn logs(&self, query: LogQuery) -> Result<Vec<u8>, ApiError> {
        let object = format!("replica/{}/{}-{}", query.app, query.service, query.index);
        let (apps, _) = self.all_apps().await?;
        let filter = Filter { namespace: Some(query.namespace), app: Some(query.app), ..Filter::default() };
        let not_found = |what: String| {
            error(
                404,
                codes::REPLICA_NOT_FOUND,
                Some(object.clone()),
                what,
                "`codeco get replicas` lists what runs where",
            )
        };
        let found = apps.iter().find(|snapshot| matches(&filter, snapshot));
        let uid = found.ok_or_else(|| not_found(format!("{object}: its application is not known")))?.uid;
        let replica = ReplicaId { app: uid, service: query.service, index: query.index };
        let copies = Copies::of(&self.member.commons, boot_now());
        let (cluster, node) =
            copies.node_of(&replica).ok_or_else(|| not_found(format!("{object} is on no node yet")))?;
        let (id, name) = self.find_node(&format!("{cluster}/{node}"))?;
        let unreachable = |why: String| {
            let next = "the log is on that node; ask again when `codeco get nodes` shows it Ready";
            error(503, codes::NODE_UNREACHABLE, Some(object.clone()), format!("node {name}: {why}"), next)
        };
        let request =
            InspectRequest::Logs { replica, container: query.container, tail_bytes: query.tail_bytes };
        match self.inspect_node(id, request).await {
            Ok(bytes) => Ok(bytes),
            Err(InspectError::Refused(why)) => Err(not_found(why)),
            Err(e) => Err(unreachable(e.to_string())),
        }
    }

    async fn create_token(&self, scope: Role, ttl_seconds: u64, founds: bool) -> Result<NewToken, ApiError> {
        if ttl_seconds == 0 || ttl_seconds > TOKEN_LIFE_MAX {
            let message = format!("ttlSeconds: found {ttl_seconds}, expected 1 to {TOKEN_LIFE_MAX}");
            return Err(error(
                422,
                codes::INVALID_TTL,
                None,
                message,
                "choose a shorter life; no token was made",
            ));
        }
        if founds {
            self.may_be_founded(&scope)?;
        }
        let Some(registrar) = self.registrar.clone() else {
            let message = format!("{} is a node: only hubs make join tokens", self.member.name);
            return Err(error(409, codes::TOKEN_NOT_MADE, None, message, "ask a hub; no token was made"));
        };
        let made = tokio::task::spawn_blocking(move || {
            let life = Duration::from_secs(ttl_seconds);
            if founds {
                registrar.create_founding_token(scope, life)
            } else {
                registrar.create_token(scope, life)
            }
        });
        let failed = |e: String| error(503, codes::TOKEN_NOT_MADE, None, e, "no token was made; try again");
        let token = made.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
        let hubs = self.member.commons.address().map(|address| address.to_string()).into_iter().collect();
        Ok(NewToken { token: token.to_text(), expires_at: token.expires.0, hubs })
    }

    async fn certs(&self, filter: Filter) -> Result<List<CertView>, ApiError> {
        Ok(self.certs_now(&filter))
    }

    async fn revoke(&self, target: String) -> Result<RevokedView, ApiError> {
        self.revoke_target(&target)
    }

    async fn rotate_ca(&self) -> Result<CaView, ApiError> {
        self.begin_handover()
    }

    async fn ca(&self) -> Result<CaView, ApiError> {
        Ok(self.ca_now())
    }

    async fn panic_actor(&self, member: String, actor: String, times: u32) -> Result<(), ApiError> {
        let refused = |why: String| {
            error(409, codes::FAULT_REFUSED, Some(format!("actor/{actor}")), why, "nothing was done")
        };
        if member == self.member.name {
            return self.faults.panic(&actor, times).map_err(refused);
        }
        let (id, name) = self.find_node(&member)?;
        let link = self.member.commons.link(id);
        let Some(link) = link else { return Err(refused(format!("node {name} is not connected"))) };
        let request = InspectRequest::Panic { actor: actor.clone(), times };
        inspect(&link, &request).await.map(|_| ()).map_err(|e| refused(format!("node {name}: {e}")))
    }

    async fn links(&self, filter: Filter) -> Result<List<LinkView>, ApiError> {
        let (mut links, warnings) = self.links_now(&filter).await;
        newest(&mut links, filter.limit, false);
        Ok(warned("Link", links, warnings))
    }

    async fn doctor(&self, filter: Filter) -> Result<DoctorView, ApiError> {
        Ok(self.doctor_now(&filter).await)
    }

    async fn fault(&self, member: String, fault: FaultWish) -> Result<(), ApiError> {
        self.inject(member, fault).await
    }

    async fn leave_node(&self, cluster: ClusterName, node: NodeName) -> Result<(), ApiError> {
        self.leave(&cluster, &node).await
    }

    async fn forget_node(
        &self,
        cluster: ClusterName,
        node: NodeName,
        forced: bool,
    ) -> Result<Vec<String>, ApiError> {
        self.forget(&cluster, &node, forced).await
    }
}

impl MemberFleet {
    /// A cluster has one electorate: whoever would found another one is refused, where a first one is known.
    fn may_be_founded(&self, scope: &Role) -> Result<(), ApiError> {
        let refused = |object: Option<String>, message: String, next: &'static str| {
            Err(error(409, codes::ELECTORATE_EXISTS, object, message, next))
        };
        let Role::Node(cluster) = scope else {
            let message = "founds: found true for a hub, expected a node of a cluster".to_owned();
            return refused(None, message, "leave it out; no token was made");
        };
        let known = self.member.commons.with_views(|views| {
            views.iter().any(|view| view.identity.cluster() == Some(cluster) && view.cluster().is_some())
        });
        if known {
            let message = format!("cluster {cluster} has a lead, so it has an electorate");
            let next =
                "make the token without --founds: its bearer is asked to vote where a voter is missing";
            return refused(Some(format!("cluster/{cluster}")), message, next);
        }
        Ok(())
    }

    /// Passes an operator's word on to the node that is to vote alone, with the highest version and term seen.
    async fn impose_electorate(&self, cluster: &ClusterName, node: &NodeName) -> Result<(), ApiError> {
        let object = format!("node/{cluster}/{node}");
        let (id, name) = self.find_node(&format!("{cluster}/{node}"))?;
        let (version, term) = self.member.commons.with_views(|views| {
            let of_cluster = views.iter().filter(|view| view.identity.cluster() == Some(cluster));
            of_cluster.fold((0, Term::default()), |(version, term), view| {
                let voters = view.electorate().map_or(0, |fact| fact.version);
                let led = view.cluster().map(|fact| fact.term).max(view.member().map(|fact| fact.term));
                (version.max(voters), term.max(led.unwrap_or_default()))
            })
        });
        let link = self.member.commons.link(id);
        let unreachable = |why: String| {
            let next = "nothing is known to have changed: connect the node, and give the order again";
            Err(error(503, codes::NODE_UNREACHABLE, Some(object.clone()), why, next))
        };
        let Some(link) = link else { return unreachable(format!("node {name} is not connected")) };
        match inspect(&link, &InspectRequest::ReplaceElectorate { version, term }).await {
            Ok(_) => {
                self.member.events.tell(Note {
                    kind: EventType::Warning,
                    reason: "ElectorateReplaced",
                    object_kind: "Cluster",
                    object: cluster.to_string(),
                    message: format!("by an operator's word {node} votes alone, above version {version}"),
                });
                Ok(())
            }
            Err(e) => unreachable(format!("node {name}: {e}")),
        }
    }
}
