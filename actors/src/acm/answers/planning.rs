//! Dry runs, and taking nodes and clusters out of use.

use std::time::Duration;

use crate::evidence::{Note, decision_view};
use crate::fabric::InspectRequest;
use crate::swm::actor::ask;
use crate::swm::home::{Plan, PlanAction, Planned};
use crate::swm::ledger::Upkeep;
use codeco_protocol::api::{CodecoApp, EventType, PlanView, PlannedAction, PlannedReplica, codes};
use codeco_protocol::ids::{ClusterName, NodeName};

use super::fleet::{MemberFleet, app_spec, error};
use super::intents::without_effect;
use crate::acm::fleet::ApiError;

/// Pause between two looks at a plan.
const LOOK: Duration = Duration::from_millis(10);
/// How long a plan may take.
const PLAN_DEADLINE: Duration = Duration::from_secs(3);

impl MemberFleet {
    pub(super) async fn plan_one(&self, app: &CodecoApp) -> Result<PlanView, ApiError> {
        let resolved = self.resolved(app)?;
        let (namespace, name) = (resolved.namespace.clone(), resolved.name.clone());
        let mut warnings = without_effect(app, &resolved);
        let spec = app_spec(resolved, app);
        let object = Some(format!("app/{name}"));
        let unavailable = |why: String| {
            let message = format!("{name} cannot be planned now: {why}");
            error(503, codes::HOME_UNAVAILABLE, object.clone(), message, "plan again; nothing was changed")
        };
        let (known, begun) = ask(&self.home, move |home, now, out| {
            let known = home.find(&spec.context.namespace, &spec.context.name).map(|(_, app)| app.generation);
            (known, home.begin_plan(now, spec, out))
        })
        .await
        .map_err(|e| unavailable(e.to_string()))?;
        let request = begun.ok_or_else(|| unavailable("too many plans are under way".into()))?;
        let began = std::time::Instant::now();
        let plan = loop {
            let found = ask(&self.home, move |home, now, _| home.finish_plan(now, request)).await;
            match found.map_err(|e| unavailable(e.to_string()))? {
                Some(plan) => break plan,
                None if began.elapsed() > PLAN_DEADLINE => {
                    return Err(unavailable("no answer in time".into()));
                }
                None => tokio::time::sleep(LOOK).await,
            }
        };
        let Plan { generation, replicas, silent } = plan;
        warnings.extend(silent.iter().map(|cluster| format!("cluster {cluster} did not bid in time")));
        let changes = known != Some(generation);
        let replicas = replicas.into_iter().map(planned_view).collect();
        Ok(PlanView { namespace, app: name, generation, changes, replicas, warnings })
    }

    /// What of `app` would find no node: a sentence for each service. Nothing if that cannot be found out now.
    pub(super) async fn infeasible(&self, app: &CodecoApp) -> Vec<String> {
        let Ok(plan) = self.plan_one(app).await else { return Vec::new() };
        let mut told: Vec<String> = Vec::new();
        for replica in plan.replicas.iter().filter(|r| r.action == PlannedAction::Wait) {
            let sentence =
                format!("service {}: no node can take it now: {}", replica.service, replica.reason);
            if !told.contains(&sentence) {
                told.push(sentence);
            }
        }
        told
    }

    pub(super) async fn set_upkeep(
        &self,
        cluster: &ClusterName,
        node: &NodeName,
        upkeep: Upkeep,
    ) -> Result<(), ApiError> {
        let (id, name) = self.find_node(&format!("{cluster}/{node}"))?;
        let unreachable = |why: String| {
            let next = "only the node itself can keep that; ask again when `codeco get nodes` shows it Ready";
            error(
                503,
                codes::NODE_UNREACHABLE,
                Some(format!("node/{name}")),
                format!("node {name}: {why}"),
                next,
            )
        };
        let answer = self.inspect_node(id, InspectRequest::Upkeep(upkeep)).await;
        answer.map(|_| ()).map_err(|e| unreachable(e.to_string()))
    }

    pub(super) async fn declare_cluster_lost(&self, cluster: ClusterName) -> Result<u64, ApiError> {
        let (object, name) = (Some(format!("cluster/{cluster}")), cluster.clone());
        let lost =
            ask(&self.home, move |home, now, out| home.cluster_lost(now, &name, out)).await.map_err(|e| {
                let message = format!("it is not known whether cluster {cluster} counts as lost: {e}");
                error(503, codes::HOME_UNAVAILABLE, object, message, "ask again: twice changes nothing")
            })?;
        self.member.events.tell(Note {
            kind: EventType::Warning,
            reason: "ClusterDeclaredLost",
            object_kind: "Cluster",
            object: cluster.to_string(),
            message: format!("an operator says that nothing runs there: {lost} replicas may start elsewhere"),
        });
        Ok(u64::try_from(lost).unwrap_or(u64::MAX))
    }

    pub(super) async fn set_cluster_drained(
        &self,
        cluster: ClusterName,
        drained: bool,
    ) -> Result<(), ApiError> {
        let object = Some(format!("cluster/{cluster}"));
        let name = cluster.clone();
        let known = ask(&self.home, move |home, now, out| {
            let known = home.clusters().any(|facts| facts.name == name) || home.drained().any(|d| *d == name);
            if known {
                home.drain_cluster(now, &name, drained, out);
            }
            known
        });
        match known.await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message = format!("cluster {cluster} is not known here");
                Err(error(404, codes::MEMBER_NOT_FOUND, object, message, "`codeco get clusters` lists them"))
            }
            Err(e) => {
                let message = format!("it is not known whether cluster {cluster} is drained: {e}");
                Err(error(503, codes::HOME_UNAVAILABLE, object, message, "ask again: twice changes nothing"))
            }
        }
    }
}

fn planned_view(planned: Planned) -> PlannedReplica {
    let (cluster, node) = planned.to.map_or((None, None), |(cluster, node)| (Some(cluster), node));
    let (from_cluster, from_node) =
        planned.from.map_or((None, None), |(cluster, node)| (Some(cluster), node));
    let view = planned.decision.as_ref().map(decision_view);
    let reason = match (&view, planned.action) {
        (Some(view), PlanAction::Create) => view.reason.clone(),
        _ => planned.why,
    };
    PlannedReplica {
        service: planned.replica.service,
        index: planned.replica.index,
        action: match planned.action {
            PlanAction::Create => PlannedAction::Create,
            PlanAction::Change => PlannedAction::Change,
            PlanAction::Keep => PlannedAction::Keep,
            PlanAction::Remove => PlannedAction::Remove,
            PlanAction::Wait => PlannedAction::Wait,
        },
        cluster,
        node,
        from_cluster,
        from_node,
        reason,
        intents: view.as_ref().map(|view| view.intents.clone()).unwrap_or_default(),
        candidates: view.map(|view| view.candidates).unwrap_or_default(),
    }
}
