//! Answers that are errors: a status, a stable code, what happened, to which object, what to do next.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use codeco_protocol::api::{ErrorBody, ManifestError};

use crate::fleet::ApiError;

/// Codes the server itself answers with. They are stable; the fleet has more of its own.
pub mod codes {
    /// No token, or one that this hub does not know.
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    /// The token's role may not do this.
    pub const FORBIDDEN: &str = "forbidden";
    /// No such path.
    pub const NO_SUCH_ROUTE: &str = "no-such-route";
    /// The path takes other methods.
    pub const METHOD_NOT_ALLOWED: &str = "method-not-allowed";
    /// A name in the path is none, or a query has an unknown or wrong field.
    pub const INVALID_REQUEST: &str = "invalid-request";
    /// The manifest is wrong; `details` says where.
    pub const INVALID_MANIFEST: &str = "invalid-manifest";
    /// The body is too large.
    pub const TOO_LARGE: &str = "too-large";
    /// The body did not arrive in time.
    pub const BODY_TIMEOUT: &str = "body-timeout";
    /// The name of an API token is taken, or there are too many.
    pub const TOKEN_NOT_MADE: &str = "token-not-made";
    /// The fleet did not answer in time.
    pub const TIMEOUT: &str = "timeout";
    /// A bug.
    pub const INTERNAL: &str = "internal";
}

impl ApiError {
    /// An error of the API server itself.
    #[must_use]
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let body = ErrorBody {
            code: code.to_owned(),
            message: message.into(),
            object: None,
            next: None,
            details: Vec::new(),
        };
        Self { status: status.as_u16(), body }
    }

    pub(super) fn about(mut self, object: impl Into<String>) -> Self {
        self.body.object = Some(object.into());
        self
    }

    pub(super) fn next(mut self, next: impl Into<String>) -> Self {
        self.body.next = Some(next.into());
        self
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, codes::INVALID_REQUEST, message)
    }

    pub(super) fn manifest(file: &str, details: Vec<ManifestError>) -> Self {
        let count = details.len();
        let plural = if count == 1 { "" } else { "s" };
        let message = format!("{file}: {count} error{plural}, nothing was applied");
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, codes::INVALID_MANIFEST, message)
            .about(file)
            .next("correct the fields named and apply again");
        error.body.details = details;
        error
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"codeco\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
