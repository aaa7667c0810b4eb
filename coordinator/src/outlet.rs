//! Where effects go: worker sessions, watchers, manifests, the log.

use nettailor_artifacts::ArtifactStore;
use nettailor_proto::convert::session::FromCoordinator;
use nettailor_scheduler::effect::Effect;
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::logs::Logs;
use crate::manifests::Manifests;
use crate::sessions::Sessions;
use crate::state::State;
use crate::store::Row;
use crate::watch::{JobEvent, Watchers};

/// Everything the driver talks to. Nothing here blocks it.
#[derive(Clone)]
pub(crate) struct Outlet {
    pub(crate) sessions: Sessions,
    pub(crate) watchers: Watchers,
    pub(crate) manifests: Manifests,
    pub(crate) logs: Logs,
    pub(crate) artifacts: ArtifactStore,
    /// For what takes its time: the driver is a thread of its own.
    pub(crate) runtime: Handle,
}

impl Outlet {
    /// Hands committed rows to the manifest writer.
    pub(crate) fn publish(&self, rows: Vec<Row>) {
        self.manifests.write(rows);
    }

    /// Carries out an effect, its records being durable.
    pub(crate) fn carry_out(&self, effect: Effect, state: &State) {
        match effect {
            Effect::Assign {
                worker,
                session,
                order,
            } => {
                info!(%worker, seat = %order.seat, world_size = order.world_size, "assigned {}", order.description);
                self.sessions
                    .send(&worker, session, FromCoordinator::Assign(order));
            }
            Effect::Meet {
                worker,
                session,
                seat,
                address,
            } => {
                self.sessions
                    .send(&worker, session, FromCoordinator::Meet { seat, address });
            }
            Effect::Stop {
                worker,
                session,
                seat,
                reason,
            } => {
                info!(%worker, %seat, reason, "stopping");
                self.sessions
                    .send(&worker, session, FromCoordinator::Stop { seat, reason });
            }
            Effect::Acknowledge {
                worker,
                session,
                seat,
            } => {
                self.sessions
                    .send(&worker, session, FromCoordinator::Acknowledged(seat));
            }
            Effect::CloseSession {
                worker,
                session,
                reason,
            } => self.sessions.close(&worker, session, &reason),
            Effect::JobChanged(id) => {
                if self.watchers.has(&id)
                    && let Some(job) = state.job(&id)
                {
                    self.watchers.tell(&id, JobEvent::Job(job.into()));
                }
            }
            // Manifests are written from the committed records.
            Effect::StageDone(key) => info!(stage = %key.0.short(), "stage done"),
            Effect::Discard(artifact) => {
                let artifacts = self.artifacts.clone();
                self.runtime.spawn(async move {
                    // What stays there takes up room, no more.
                    if let Err(error) = artifacts.remove(artifact.digest).await {
                        warn!("a checkpoint cannot be removed: {error}");
                    }
                });
            }
            Effect::Published { task, version } => info!(%task, version, "published"),
        }
    }
}
