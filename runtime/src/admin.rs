//! The admin port's routes: `/livez`, `/readyz` and `/metrics`, the same in every program.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};

use crate::shutdown::Shutdown;

/// Asked at every probe: whether the program can do its work, with the reason where it cannot.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The admin routes. Ready turns false the moment the shutdown begins.
pub fn routes(readiness: Readiness, registry: Registry, shutdown: Shutdown) -> Router {
    let ready = move || async move {
        match readiness() {
            _ if shutdown.has_begun() => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".to_owned()),
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        }
    };
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(move || async move { metrics(&registry) }))
}

fn metrics(registry: &Registry) -> impl IntoResponse + use<> {
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            error.to_string().into_bytes(),
        ),
    }
}
