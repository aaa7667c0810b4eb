//! gRPC: convert, check, ask the driver, convert. Generated types stop here.

mod artifacts;
mod history;
mod jobs;
mod lookups;
mod registry;
mod users;
mod view;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use nettailor_artifacts::ArtifactStore;
use nettailor_domain::session::KEEP_ALIVE;
use nettailor_engine::History;
use nettailor_proto::limits::MAX_MESSAGE_BYTES;
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1::artifacts_server::ArtifactsServer;
use nettailor_proto::v1::jobs_server::JobsServer;
use nettailor_proto::v1::registry_server::RegistryServer;
use nettailor_proto::v1::users_server::UsersServer;
use nettailor_proto::v1::workers_server::WorkersServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::handle::Handle;
use crate::logs::Logs;
use crate::sessions::Sessions;

/// What the services need.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) handle: Handle,
    pub(crate) artifacts: ArtifactStore,
    pub(crate) sessions: Sessions,
    pub(crate) logs: Logs,
    /// What happened, as it is kept.
    pub(crate) history: Arc<dyn History>,
    /// Agents are asked for a heartbeat this often.
    pub(crate) heartbeat: Duration,
    /// Ends every stream.
    pub(crate) stop: CancellationToken,
}

/// Serves until `context.stop`, then until the calls in hand are answered.
pub(crate) async fn serve(listener: TcpListener, context: Context) -> Result<(), tonic::transport::Error> {
    let stop = context.stop.clone();
    let jobs = JobsServer::new(jobs::Service(context.clone()));
    let workers = WorkersServer::new(workers::Service(context.clone()));
    let registry = RegistryServer::new(registry::Service(context.clone()));
    let users = UsersServer::new(users::Service(context.clone()));
    let artifacts = ArtifactsServer::new(artifacts::Service(context));
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_service(jobs.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(workers.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(users.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(registry.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(artifacts.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            stop.cancelled_owned(),
        )
        .await
}

/// An error of the artifact store as a caller sees it.
fn storage(error: nettailor_artifacts::Error) -> Error {
    use nettailor_artifacts::Error as Storage;
    let code = match &error {
        Storage::Full { .. } => Code::StorageFull,
        Storage::BlobMissing(_) => Code::BlobMissing,
        Storage::Mismatch { .. } | Storage::Damaged { .. } => Code::DigestMismatch,
        Storage::Unreachable { .. } | Storage::Store { .. } | Storage::Interrupted { .. } => {
            Code::Unavailable
        }
        _ => Code::Internal,
    };
    Error::new(code, chain(&error))
}

/// An error with its causes, for people.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
