//! `/livez`: the process answers. `/readyz`: its session with the coordinator is up.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::Error;

/// Answers probes until something breaks; without a listener, never returns.
pub(crate) async fn serve(listener: Option<TcpListener>, ready: watch::Receiver<bool>) -> Result<(), Error> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let probes = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .with_state(ready);
    axum::serve(listener, probes).await.map_err(Error::Surroundings)
}

async fn readyz(State(ready): State<watch::Receiver<bool>>) -> (StatusCode, &'static str) {
    if *ready.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "no session with the coordinator\n",
        )
    }
}
