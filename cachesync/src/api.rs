//! The agent's HTTP routes: the node cache status endpoint.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;

use crate::status::StatusBoard;

/// `/v1/status` and `/v1/versions/<name>`.
pub fn routes(board: StatusBoard) -> Router {
    Router::new()
        .route("/v1/status", get(|State(board): State<StatusBoard>| async move { Json(board.status()) }))
        .route("/v1/versions/{name}", get(version))
        .with_state(board)
}

async fn version(State(board): State<StatusBoard>, Path(name): Path<String>) -> Response {
    match board.manifest(&name) {
        Some(manifest) => Json(manifest).into_response(),
        None => (StatusCode::NOT_FOUND, format!("no version {name:?} is ready here; see /v1/status\n"))
            .into_response(),
    }
}
