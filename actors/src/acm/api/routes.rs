//! Paths, and what each asks of the fleet.

use std::sync::Arc;

use crate::swm::ledger::Upkeep;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};
use codeco_protocol::api::{
    CaView, CodecoApp, DoctorView, List, PlanView, RevokedView, codes, load_manifests,
};
use codeco_protocol::ids::{AppName, ClusterName, Namespace, NodeName, ServiceName};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::guard::{guard, peer_of};
use super::refusals::{RefusalReason, Refused};
use super::requests::{
    ApiTokenRequest, BrakeView, ElectorateRequest, FILE_NAME_HEADER, FaultRequest, ForgetRequest, Forgotten,
    LostView, NewApiToken, PanicRequest, RevokeRequest, TIMES_MAX, TTL_SECONDS_MAX, TTL_SECONDS_MIN,
    TailQuery, TokenRequest, UpkeepRequest, UpkeepWish, VersionView,
};
use super::server::Shared;
use super::tokens::ApiTokensError;
use crate::acm::fleet::{ApiError, Applied, Filter, LogQuery, NewToken};

/// Bytes of a log when nobody says how many.
const TAIL_BYTES_DEFAULT: u32 = 64 << 10;
/// Most bytes of a log in one answer.
const TAIL_BYTES_MAX: u32 = 4 << 20;
/// Most characters of a file's name that are repeated in messages.
const FILE_NAME_MAX: usize = 200;

type Ask = Result<Query<Filter>, axum::extract::rejection::QueryRejection>;
type Reply<T> = Result<Json<T>, ApiError>;

macro_rules! lists {
    ($router:expr, $($path:literal => $method:ident),+ $(,)?) => {
        $router$(.route($path, get(|State(shared): State<Arc<Shared>>, ask: Ask| async move {
            let list: List<_> = shared.fleet.$method(filter(ask)?).await?;
            Ok::<_, ApiError>(Json(list))
        })))+
    };
}

/// All routes, behind the guard.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let lists = lists!(
        Router::new(),
        "/api/v1/apps" => apps,
        "/api/v1/replicas" => replicas,
        "/api/v1/nodes" => nodes,
        "/api/v1/clusters" => clusters,
        "/api/v1/events" => events,
        "/api/v1/decisions" => decisions,
        "/api/v1/actors" => actors,
        "/api/v1/links" => links,
        "/api/v1/certs" => certs,
        "/api/v1/models" => models,
    );
    lists
        .route("/api/v1/version", get(version))
        .route("/api/v1/apps", post(apply))
        .route("/api/v1/plan", post(plan))
        .route("/api/v1/nodes/{cluster}/{node}/upkeep", post(node_upkeep))
        .route("/api/v1/nodes/{cluster}/{node}/forget", post(forget))
        .route("/api/v1/nodes/{cluster}/{node}/leave", post(leave))
        .route("/api/v1/clusters/{cluster}/upkeep", post(cluster_upkeep))
        .route("/api/v1/clusters/{cluster}/lost", post(cluster_lost))
        .route("/api/v1/clusters/{cluster}/brake/release", post(brake_release))
        .route("/api/v1/clusters/{cluster}/electorate", post(electorate))
        .route("/api/v1/apps/{namespace}/{name}", delete(remove))
        .route("/api/v1/logs/{namespace}/{app}/{service}/{index}", get(logs))
        .route("/api/v1/tokens", post(token))
        .route("/api/v1/api-tokens", post(api_token))
        .route("/api/v1/faults/panic", post(panic))
        .route("/api/v1/faults", post(fault))
        .route("/api/v1/doctor", get(doctor))
        .route("/api/v1/certs/revoke", post(revoke))
        .route("/api/v1/ca", get(ca))
        .route("/api/v1/ca/rotate", post(rotate_ca))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(shared.limits.body_bytes_max))
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

fn filter(ask: Ask) -> Result<Filter, ApiError> {
    let fields = "namespace, app, cluster, node, limit, selector, replica and since are understood";
    ask.map(|Query(filter)| filter)
        .map_err(|rejection| ApiError::invalid(format!("the query is wrong: {rejection}")).next(fields))
}

async fn version() -> Json<VersionView> {
    Json(VersionView { version: env!("CARGO_PKG_VERSION").to_owned(), api: "v1".to_owned() })
}

async fn apply(State(shared): State<Arc<Shared>>, request: Request) -> Reply<Vec<Applied>> {
    let apps = read_manifests(&shared, request).await?;
    Ok(Json(shared.fleet.apply(apps).await?))
}

/// Reads like `apply`, and changes nothing.
async fn plan(State(shared): State<Arc<Shared>>, request: Request) -> Reply<Vec<PlanView>> {
    let apps = read_manifests(&shared, request).await?;
    Ok(Json(shared.fleet.plan(apps).await?))
}

async fn node_upkeep(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<(ClusterName, NodeName)>, axum::extract::rejection::PathRejection>,
    request: Request,
) -> Reply<serde_json::Value> {
    let Path((cluster, node)) = path.map_err(|e| ApiError::invalid(e.body_text()))?;
    let wish: UpkeepRequest = read_json(&shared, request).await?;
    let upkeep = match wish.upkeep {
        UpkeepWish::Open => Upkeep::Open,
        UpkeepWish::Cordoned => Upkeep::Cordoned,
        UpkeepWish::Draining => Upkeep::Draining,
    };
    shared.fleet.node_upkeep(cluster, node, upkeep).await?;
    Ok(Json(serde_json::json!({})))
}

async fn forget(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<(ClusterName, NodeName)>, axum::extract::rejection::PathRejection>,
    request: Request,
) -> Reply<Forgotten> {
    let Path((cluster, node)) = path.map_err(|e| ApiError::invalid(e.body_text()))?;
    let ForgetRequest { force } = read_json(&shared, request).await?;
    Ok(Json(Forgotten { warnings: shared.fleet.forget_node(cluster, node, force).await? }))
}

async fn leave(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<(ClusterName, NodeName)>, axum::extract::rejection::PathRejection>,
) -> Reply<serde_json::Value> {
    let Path((cluster, node)) = path.map_err(|e| ApiError::invalid(e.body_text()))?;
    shared.fleet.leave_node(cluster, node).await?;
    Ok(Json(serde_json::json!({})))
}

async fn cluster_upkeep(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<ClusterName>, axum::extract::rejection::PathRejection>,
    request: Request,
) -> Reply<serde_json::Value> {
    let Path(cluster) = path.map_err(|e| ApiError::invalid(e.body_text()))?;
    let wish: UpkeepRequest = read_json(&shared, request).await?;
    let drained = match wish.upkeep {
        UpkeepWish::Open => false,
        UpkeepWish::Draining => true,
        UpkeepWish::Cordoned => {
            let message =
                "upkeep: found cordoned, expected open or draining: a cluster as a whole is only drained";
            return Err(ApiError::invalid(message.to_owned()).next("cordon its nodes instead"));
        }
    };
    shared.fleet.cluster_drain(cluster, drained).await?;
    Ok(Json(serde_json::json!({})))
}

async fn cluster_lost(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<ClusterName>, axum::extract::rejection::PathRejection>,
) -> Reply<LostView> {
    let Path(cluster) = path.map_err(|e| ApiError::invalid(e.body_text()))?;
    let replicas = shared.fleet.cluster_lost(cluster.clone()).await?;
    Ok(Json(LostView { cluster, replicas }))
}

async fn brake_release(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<ClusterName>, axum::extract::rejection::PathRejection>,
) -> Reply<BrakeView> {
    let Path(cluster) = path.map_err(|e| ApiError::invalid(e.body_text()))?;
    Ok(Json(shared.fleet.release_brake(cluster).await?))
}

async fn electorate(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<ClusterName>, axum::extract::rejection::PathRejection>,
    request: Request,
) -> Reply<serde_json::Value> {
    let Path(cluster) = path.map_err(|e| ApiError::invalid(e.body_text()))?;
    let ElectorateRequest { with } = read_json(&shared, request).await?;
    shared.fleet.replace_electorate(cluster, with).await?;
    Ok(Json(serde_json::json!({})))
}

/// The applications of the body. Its errors name the file that the sender says it is.
async fn read_manifests(shared: &Arc<Shared>, request: Request) -> Result<Vec<CodecoApp>, ApiError> {
    let name = request.headers().get(FILE_NAME_HEADER).map_or_else(
        || "-".to_owned(),
        |name| String::from_utf8_lossy(name.as_bytes()).chars().take(FILE_NAME_MAX).collect(),
    );
    let body = read_body(shared, request).await?;
    // Reading a large manifest takes long enough to keep others waiting.
    let read = tokio::task::spawn_blocking(move || {
        let text = std::str::from_utf8(&body).map_err(|e| {
            ApiError::invalid(format!("{name} is not UTF-8 at byte {}", e.valid_up_to())).about(&name)
        })?;
        load_manifests(&name, text).map_err(|errors| ApiError::manifest(&name, errors))
    });
    read.await.map_err(|e| {
        let message = format!("the reader of manifests failed: {e}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, codes::INTERNAL, message)
    })?
}

async fn remove(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<(Namespace, AppName)>, axum::extract::rejection::PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Path((namespace, name)) = path.map_err(|e| ApiError::invalid(e.body_text()))?;
    shared.fleet.delete(namespace, name).await?;
    Ok((StatusCode::ACCEPTED, Json(serde_json::json!({}))))
}

async fn logs(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<(Namespace, AppName, ServiceName, u32)>, axum::extract::rejection::PathRejection>,
    tail: Result<Query<TailQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Path((namespace, app, service, index)) = path.map_err(|e| ApiError::invalid(e.body_text()))?;
    let Query(tail) = tail.map_err(|e| {
        ApiError::invalid(format!("the query is wrong: {e}")).next("container and tailBytes are understood")
    })?;
    let tail_bytes = tail.tail_bytes.unwrap_or(TAIL_BYTES_DEFAULT).min(TAIL_BYTES_MAX);
    let query = LogQuery { namespace, app, service, index, container: tail.container, tail_bytes };
    let bytes = shared.fleet.logs(query).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes))
}

async fn token(State(shared): State<Arc<Shared>>, request: Request) -> Reply<NewToken> {
    let wish: TokenRequest = read_json(&shared, request).await?;
    if !(TTL_SECONDS_MIN..=TTL_SECONDS_MAX).contains(&wish.ttl_seconds) {
        let message = format!(
            "ttlSeconds is {}, expected {TTL_SECONDS_MIN} to {TTL_SECONDS_MAX} (30 days)",
            wish.ttl_seconds
        );
        return Err(ApiError::invalid(message));
    }
    Ok(Json(shared.fleet.create_token(wish.scope, wish.ttl_seconds, wish.founds).await?))
}

/// The tokens are the API's own: the fleet is not asked.
async fn api_token(State(shared): State<Arc<Shared>>, request: Request) -> Reply<NewApiToken> {
    let ApiTokenRequest { name, role } = read_json(&shared, request).await?;
    let (tokens, wanted) = (shared.tokens.clone(), name.clone());
    // It is written to disk before it is told.
    let made = tokio::task::spawn_blocking(move || tokens.create(&wanted, role)).await;
    let internal = |e: String| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, codes::INTERNAL, e).next("no token was made")
    };
    let made = made.map_err(|e| internal(format!("the maker of tokens failed: {e}")))?;
    let token = made.map_err(|error| match error {
        ApiTokensError::Exists { .. } | ApiTokensError::TooMany | ApiTokensError::NotHere => {
            ApiError::new(StatusCode::CONFLICT, codes::API_TOKEN_NOT_MADE, error.to_string())
                .next("no token was made")
        }
        ApiTokensError::BadName { .. } => ApiError::invalid(error.to_string()).next("no token was made"),
        other => internal(other.to_string()),
    })?;
    tracing::info!(%name, %role, "API token made");
    Ok(Json(NewApiToken { name, role, token }))
}

async fn panic(State(shared): State<Arc<Shared>>, request: Request) -> Reply<serde_json::Value> {
    let wish: PanicRequest = read_json(&shared, request).await?;
    if !(1..=TIMES_MAX).contains(&wish.times) {
        return Err(ApiError::invalid(format!("times is {}, expected 1 to {TIMES_MAX}", wish.times)));
    }
    shared.fleet.panic_actor(wish.member, wish.actor, wish.times).await?;
    Ok(Json(serde_json::json!({})))
}

async fn fault(State(shared): State<Arc<Shared>>, request: Request) -> Reply<serde_json::Value> {
    let FaultRequest { member, fault } = read_json(&shared, request).await?;
    shared.fleet.fault(member, fault).await?;
    Ok(Json(serde_json::json!({})))
}

async fn doctor(State(shared): State<Arc<Shared>>, ask: Ask) -> Reply<DoctorView> {
    Ok(Json(shared.fleet.doctor(filter(ask)?).await?))
}

async fn revoke(State(shared): State<Arc<Shared>>, request: Request) -> Reply<RevokedView> {
    let wish: RevokeRequest = read_json(&shared, request).await?;
    Ok(Json(shared.fleet.revoke(wish.target).await?))
}

async fn ca(State(shared): State<Arc<Shared>>) -> Reply<CaView> {
    Ok(Json(shared.fleet.ca().await?))
}

async fn rotate_ca(State(shared): State<Arc<Shared>>) -> Reply<CaView> {
    Ok(Json(shared.fleet.rotate_ca().await?))
}

async fn no_route(request: Request) -> ApiError {
    let message = format!("there is no {}", request.uri().path());
    ApiError::new(StatusCode::NOT_FOUND, codes::NO_SUCH_ROUTE, message)
        .next("compare the versions of both sides: `codeco version`")
}

async fn no_method(request: Request) -> ApiError {
    let message = format!("{} does not take {}", request.uri().path(), request.method());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, codes::METHOD_NOT_ALLOWED, message)
}

async fn read_json<T: DeserializeOwned>(shared: &Shared, request: Request) -> Result<T, ApiError> {
    let body = read_body(shared, request).await?;
    serde_json::from_slice(&body).map_err(|e| ApiError::invalid(format!("the body is wrong: {e}")))
}

/// The whole body, unless it is too large or too slow. A length announced is believed before a byte is read.
async fn read_body(shared: &Shared, request: Request) -> Result<Bytes, ApiError> {
    let max = shared.limits.body_bytes_max;
    let peer = peer_of(&request);
    let route = format!("{} {}", request.method(), request.uri().path());
    let refuse = |reason| {
        let (role, name, unreported) = (None, None, 0);
        shared.refusals.note(Refused { peer, reason, role, name, route: route.clone(), unreported });
    };
    let too_large = || {
        refuse(RefusalReason::BodyTooLarge);
        let message = format!("the body is larger than {max} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, codes::TOO_LARGE, message)
            .next("apply fewer applications at a time")
    };
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if announced.and_then(|length| length.parse::<usize>().ok()).is_some_and(|length| length > max) {
        return Err(too_large());
    }
    match timeout(shared.limits.body, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large()),
        Ok(Err(rejection)) => Err(ApiError::invalid(rejection.body_text())),
        Err(_) => {
            refuse(RefusalReason::BodyTooSlow);
            let message = format!("the body did not arrive within {:?}", shared.limits.body);
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, codes::BODY_TIMEOUT, message))
        }
    }
}
