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

impl JobEvent {
    /// Whether nothing follows it.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Self::Job(job) if job.view.phase.is_final())
    }
}

/// One channel per live job that is watched. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watchers {
    jobs: Arc<Mutex<HashMap<JobId, broadcast::Sender<JobEvent>>>>,
}

impl Watchers {
    /// What is told about a live job from now on.
    pub(crate) fn watch(&self, id: &JobId) -> broadcast::Receiver<JobEvent> {
        let mut jobs = self.lock();
        // A channel takes its room at once: those whose watchers have left go first.
        jobs.retain(|_, watched| watched.receiver_count() > 0);
        jobs.entry(id.clone())
            .or_insert_with(|| broadcast::channel(BACKLOG).0)
            .subscribe()
    }

    /// Whether somebody watches a job.
    pub(crate) fn has(&self, id: &JobId) -> bool {
        self.lock().contains_key(id)
    }

    /// Tells those who watch a job; forgets it once they have gone or nothing follows.
    pub(crate) fn tell(&self, id: &JobId, event: JobEvent) {
        let mut jobs = self.lock();
        let last = event.is_last();
        if jobs
            .get(id)
            .is_some_and(|watched| watched.send(event).is_err() || last)
        {
            jobs.remove(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, broadcast::Sender<JobEvent>>> {
        // Every change under the lock is a single call: a panic elsewhere leaves nothing half done.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap as Map;

    use nettailor_domain::backbone::BackboneName;
    use nettailor_scheduler::view::{JobPhase, JobView};

    use super::*;

    fn event(id: &str, phase: JobPhase) -> JobEvent {
        let view = JobView {
            id: id.parse().unwrap(),
            sequence: 1,
            task: "digits".parse().unwrap(),
            arch: BackboneName::Lite0,
            phase,
            reason: "as the test wants".into(),
            submitted_ms: 1,
            finished_ms: None,
            model_version: None,
            stages_run: 0,
            stage_count: 0,
            stages: vec![],
        };
        let progress = Map::new();
        JobEvent::Job(Arc::new(Job { view, progress }))
    }

    #[test]
    fn a_channel_lasts_as_long_as_there_is_somebody_to_tell_something() {
        let watchers = Watchers::default();
        let (a, b): (JobId, JobId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut told = watchers.watch(&a);
        watchers.tell(&a, event("a", JobPhase::Running));
        watchers.tell(&a, event("a", JobPhase::Failed));
        assert!(!watchers.has(&a), "nothing follows");
        assert!(!told.try_recv().unwrap().is_last());
        assert!(told.try_recv().unwrap().is_last());

        drop(watchers.watch(&a));
        let _watching = watchers.watch(&b);
        assert!(!watchers.has(&a), "its watcher has left");
        assert!(watchers.has(&b));
    }
}
