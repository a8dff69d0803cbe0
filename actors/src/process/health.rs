//! `/healthz`, `/readyz` and `/metrics` over plain HTTP, for the kubelet and Prometheus. Read-only, no secrets.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::metrics::{Samples, render};
use super::readiness::Readiness;

/// Serves until `shutdown` resolves.
///
/// # Errors
/// What the listener says.
pub async fn serve_health(
    listener: TcpListener,
    readiness: Readiness,
    samples: Samples,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || ready(readiness.clone())))
        .route("/metrics", get(move || metrics(samples.clone())));
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

async fn ready(readiness: Readiness) -> impl IntoResponse {
    let reasons = readiness.reasons();
    if reasons.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", reasons.join("; ")))
}

async fn metrics(samples: Samples) -> impl IntoResponse {
    let rendered = tokio::task::spawn_blocking(move || render(&samples));
    match tokio::time::timeout(Duration::from_secs(2), rendered).await {
        Ok(Ok(text)) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [("content-type", kind)], text)
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, [("content-type", "text/plain")], "busy\n".to_owned()),
    }
}
