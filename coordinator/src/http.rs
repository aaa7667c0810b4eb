//! Probes: `/livez` (the process works) and `/readyz` (the state is restored and the driver answers).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::handle::Handle;

/// Longest wait for the driver's answer: several rounds with a slow disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// Filled once the state is restored.
pub(crate) type Ready = Arc<OnceLock<Handle>>;

pub(crate) fn router(ready: Ready) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(ready)
}

async fn readyz(State(ready): State<Ready>) -> (StatusCode, &'static str) {
    let Some(handle) = ready.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the state is being restored\n");
    };
    match tokio::time::timeout(PATIENCE, handle.read(|_| ())).await {
        Ok(Ok(())) => (StatusCode::OK, "ok\n"),
        Ok(Err(_)) => (StatusCode::SERVICE_UNAVAILABLE, "the coordinator is stopping\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n"),
    }
}
