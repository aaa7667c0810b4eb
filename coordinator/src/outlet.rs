//! Where effects go: worker sessions, those who watch jobs, the artifact store.

use std::collections::BTreeSet;

use nettailor_artifacts::ArtifactStore;
use nettailor_domain::ids::{JobId, WorkerId};
use nettailor_domain::stage::Artifact;
use nettailor_engine::{Change, Row, State};
use nettailor_proto::convert::session::FromCoordinator;
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::SessionNumber;
use tokio::runtime::Handle;
use tracing::{debug, info, warn};

use crate::logs::Logs;
use crate::manifests::{Manifests, has_manifest};
use crate::sessions::Sessions;
use crate::watch::{JobEvent, Watchers};

/// Everything the driver talks to. Nothing here blocks it.
#[derive(Clone)]
pub(crate) struct Outlet {
    pub(crate) sessions: Sessions,
    pub(crate) watchers: Watchers,
    pub(crate) manifests: Manifests,
    pub(crate) logs: Logs,
    pub(crate) artifacts: ArtifactStore,
    /// For what takes its time: the driver's threads are its own.
    pub(crate) runtime: Handle,
}

/// An effect, ready to be carried out without the state.
pub(crate) enum Notice {
    /// Say this to a worker.
    Send(WorkerId, SessionNumber, FromCoordinator),
    /// End a worker's session.
    Close(WorkerId, SessionNumber, String),
    /// Tell those who watch a job.
    Tell(JobId, JobEvent),
    /// Remove a file from the artifact store.
    Discard(Artifact),
    /// Write a row's manifest to the artifact store.
    Manifest(Row),
}

impl Outlet {
    /// Makes ready what is to be done once the changes are durable, while the state is as the request left it. Watchers are
    /// told once of all that a request changed.
    pub(crate) fn prepare(&self, changes: &[Change], effects: Vec<Effect>, state: &State) -> Vec<Notice> {
        let manifests = changes.iter().filter_map(|change| match change {
            Change::Put(row) if has_manifest(row) => Some(Notice::Manifest(row.clone())),
            Change::Put(_) | Change::Remove(_) => None,
        });
        let mut notices: Vec<Notice> = manifests.collect();
        let mut changed = BTreeSet::new();
        for effect in effects {
            notices.push(match effect {
                Effect::Assign {
                    worker,
                    session,
                    order,
                } => {
                    debug!(%worker, seat = %order.seat, world_size = order.world_size, "assigning {}", order.description);
                    Notice::Send(worker, session, FromCoordinator::Assign(order))
                }
                Effect::Meet {
                    worker,
                    session,
                    seat,
                    address,
                } => Notice::Send(worker, session, FromCoordinator::Meet { seat, address }),
                Effect::Stop {
                    worker,
                    session,
                    seat,
                    reason,
                } => {
                    info!(%worker, %seat, reason, "stopping");
                    Notice::Send(worker, session, FromCoordinator::Stop { seat, reason })
                }
                Effect::Acknowledge {
                    worker,
                    session,
                    seat,
                } => Notice::Send(worker, session, FromCoordinator::Acknowledged(seat)),
                Effect::CloseSession {
                    worker,
                    session,
                    reason,
                } => Notice::Close(worker, session, reason),
                Effect::Discard(artifact) => Notice::Discard(artifact),
                Effect::StageChanged(key) => {
                    changed.extend(self.watchers.of_stage(&key));
                    continue;
                }
                Effect::JobChanged(sequence) => {
                    let job = state.scheduler.job_numbered(sequence);
                    changed.extend(job.map(|(job, _)| job.id.clone()));
                    continue;
                }
                Effect::Published { task, version } => {
                    info!(%task, version, "published");
                    continue;
                }
            });
        }
        let watched = changed.into_iter().filter(|id| self.watchers.has(id));
        notices.extend(watched.filter_map(|id| {
            let event = JobEvent::Job(state.job(&id)?.into());
            Some(Notice::Tell(id, event))
        }));
        notices
    }

    /// Carries out an effect, what it speaks of being durable.
    pub(crate) fn tell(&self, notice: Notice) {
        match notice {
            Notice::Send(worker, session, message) => self.sessions.send(&worker, session, message),
            Notice::Close(worker, session, reason) => self.sessions.close(&worker, session, &reason),
            Notice::Manifest(row) => self.manifests.write(row),
            Notice::Tell(job, event) => self.watchers.tell(&job, event),
            Notice::Discard(artifact) => {
                let artifacts = self.artifacts.clone();
                self.runtime.spawn(async move {
                    // What stays there takes up room, no more.
                    if let Err(error) = artifacts.remove(artifact.digest).await {
                        warn!("a checkpoint cannot be removed: {error}");
                    }
                });
            }
        }
    }
}
