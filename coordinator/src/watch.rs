//! Those who watch jobs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nettailor_domain::ids::{Attempt, JobId};
use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::Progress;
use tokio::sync::broadcast;

use crate::state::Job;

/// Events that a watcher may lag behind before it is sent the whole job instead: some minutes of progress reports.
const BACKLOG: usize = 256;

/// What a watcher is told.
#[derive(Debug, Clone)]
pub(crate) enum JobEvent {
    /// The whole job, after a change.
    Job(Arc<Job>),
    /// How far one of its stages is.
    Progress {
        attempt: Attempt,
        kind: StageKind,
        progress: Progress,
    },
}

/// One channel per watched job. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watchers {
    jobs: Arc<Mutex<HashMap<JobId, broadcast::Sender<JobEvent>>>>,
}

impl Watchers {
    /// What is told about a job from now on.
    pub(crate) fn watch(&self, id: &JobId) -> broadcast::Receiver<JobEvent> {
        self.lock()
            .entry(id.clone())
            .or_insert_with(|| broadcast::channel(BACKLOG).0)
            .subscribe()
    }

    /// Whether somebody watches a job.
    pub(crate) fn has(&self, id: &JobId) -> bool {
        self.lock().contains_key(id)
    }

    /// Tells those who watch a job; forgets it once they have gone.
    pub(crate) fn tell(&self, id: &JobId, event: JobEvent) {
        let mut jobs = self.lock();
        if jobs.get(id).is_some_and(|watched| watched.send(event).is_err()) {
            jobs.remove(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, broadcast::Sender<JobEvent>>> {
        // Every change under the lock is a single call: a panic elsewhere leaves nothing half done.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
