//! Roles, and who may do what.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use codeco_protocol::api::codes;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::refusals::{RefusalReason, Refused};
use super::requests::MEMBER_HEADER;
use super::server::Shared;
use super::tokens::Bearer;
use crate::acm::fleet::ApiError;

/// What a token may do. Each role may do everything the one before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiRole {
    /// Reads everything, logs too; no tokens can be read by anybody.
    Viewer,
    /// Also applies and deletes applications, removes nodes that are gone, and releases brakes.
    Operator,
    /// Also makes join tokens and faults.
    Admin,
}

impl ApiRole {
    /// All roles, weakest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for ApiRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for ApiRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let role = Self::ALL.into_iter().find(|role| role.word() == text);
        role.ok_or_else(|| format!("{text:?} is no role: expected viewer, operator or admin"))
    }
}

/// The weakest role that may do this. What is not named here needs an admin.
#[must_use]
pub fn needed_role(method: &Method, path: &str) -> ApiRole {
    if matches!(*method, Method::GET | Method::HEAD) {
        ApiRole::Viewer
    } else if path == "/api/v1/apps"
        || path.starts_with("/api/v1/apps/")
        || (path.starts_with("/api/v1/nodes/") && path.ends_with("/forget"))
        || (path.starts_with("/api/v1/clusters/") && path.ends_with("/brake/release"))
    {
        ApiRole::Operator
    } else {
        ApiRole::Admin
    }
}

/// Where a request comes from; set once for each connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Lets a request through whose token may do what it asks, within the longest time for a request.
pub(super) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let route = format!("{} {}", request.method(), cut(request.uri().path()));
    match admit(&shared, &request, &route) {
        Ok(bearer) => tracing::debug!(%route, name = bearer.name, role = %bearer.role, "request"),
        Err(error) => {
            // Strangers keep no connection.
            let mut response = error.into_response();
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
    }
    let answer = timeout(shared.limits.request, next.run(request)).await;
    let mut response = answer.unwrap_or_else(|_| {
        let message = format!("the fleet did not answer within {:?}", shared.limits.request);
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, codes::TIMEOUT, message)
            .about(route)
            .next("try again; `codeco get nodes` shows who is not heard")
            .into_response()
    });
    if let Ok(member) = HeaderValue::from_str(&shared.member) {
        response.headers_mut().insert(MEMBER_HEADER, member);
    }
    response
}

fn admit(shared: &Shared, request: &Request, route: &str) -> Result<Bearer, ApiError> {
    let refuse = |reason, bearer: Option<&Bearer>| {
        shared.refusals.note(Refused {
            peer: peer_of(request),
            reason,
            role: bearer.map(|bearer| bearer.role),
            name: bearer.map(|bearer| bearer.name.clone()),
            route: route.to_owned(),
            unreported: 0,
        });
    };
    let unauthenticated = |message: &str| {
        ApiError::new(StatusCode::UNAUTHORIZED, codes::UNAUTHENTICATED, message)
            .about(route)
            .next("use a context with a token of this hub: `codeco context list`")
    };
    let Some(token) = bearer_token(request.headers()) else {
        refuse(RefusalReason::NoToken, None);
        return Err(unauthenticated("the request carries no bearer token"));
    };
    let Some(bearer) = shared.tokens.check(token) else {
        refuse(RefusalReason::BadToken, None);
        return Err(unauthenticated("this hub did not give out the token, or it was revoked"));
    };
    let needed = needed_role(request.method(), request.uri().path());
    if bearer.role < needed {
        refuse(RefusalReason::WrongRole, Some(&bearer));
        let message = format!("token {:?} is of role {}, this needs {needed}", bearer.name, bearer.role);
        return Err(ApiError::new(StatusCode::FORBIDDEN, codes::FORBIDDEN, message)
            .about(route)
            .next(format!("use a context whose token is of role {needed}")));
    }
    Ok(bearer)
}

/// The address a request came from.
pub(super) fn peer_of(request: &Request) -> IpAddr {
    request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0)
}

/// The token of the only `authorization` header.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn cut(path: &str) -> String {
    path.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_needed_is_viewer_to_read_operator_for_applications_and_admin_for_the_rest() {
        use ApiRole::{Admin, Operator, Viewer};
        for (method, path, role) in [
            (Method::GET, "/api/v1/apps", Viewer),
            (Method::GET, "/api/v1/logs/default/a/s/0", Viewer),
            (Method::HEAD, "/api/v1/nodes", Viewer),
            (Method::POST, "/api/v1/apps", Operator),
            (Method::DELETE, "/api/v1/apps/default/a", Operator),
            (Method::GET, "/api/v1/links", Viewer),
            (Method::GET, "/api/v1/doctor", Viewer),
            (Method::POST, "/api/v1/nodes/edge-1/a/forget", Operator),
            (Method::POST, "/api/v1/nodes/edge-1/a/leave", Admin),
            (Method::POST, "/api/v1/clusters/edge-1/brake/release", Operator),
            (Method::POST, "/api/v1/clusters/edge-1/lost", Admin),
            (Method::POST, "/api/v1/faults", Admin),
            (Method::POST, "/api/v1/tokens", Admin),
            (Method::POST, "/api/v1/faults/panic", Admin),
            (Method::PUT, "/api/v1/new", Admin),
            (Method::POST, "/api/v1/appsx", Admin),
        ] {
            assert_eq!(needed_role(&method, path), role, "{method} {path}");
        }
        assert!(Viewer < Operator && Operator < Admin);
    }

    #[test]
    fn bearer_token_is_taken_from_exactly_one_header_of_the_right_scheme() {
        let headers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            headers
        };
        assert_eq!(bearer_token(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer_token(&headers(&["bearer abc"])), Some("abc"));
        for wrong in [&["Basic abc"][..], &["abc"], &[], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer_token(&headers(wrong)), None, "{wrong:?}");
        }
    }
}
