//! Answers that are errors: a status, a stable code, what happened, to which object, what to do next.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use codeco_protocol::api::{ErrorBody, ErrorCode, ManifestError, codes};

use crate::acm::fleet::ApiError;

impl ApiError {
    /// An error of the API server itself.
    #[must_use]
    pub(super) fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        let body = ErrorBody {
            code: code.word().to_owned(),
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

    pub(in crate::acm) fn invalid(message: impl Into<String>) -> Self {
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
