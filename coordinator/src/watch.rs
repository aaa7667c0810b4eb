//! Those who watch jobs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nettailor_domain::ids::{Attempt, JobId, StageKey};
use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::Progress;
use nettailor_engine::Job;
use tokio::sync::broadcast;

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
    watched: Arc<Mutex<Watched>>,
}

#[derive(Debug, Default)]
struct Watched {
    jobs: HashMap<JobId, broadcast::Sender<JobEvent>>,
    /// The jobs among them that use a stage.
    by_stage: HashMap<StageKey, Vec<JobId>>,
}

impl Watched {
    /// Forgets jobs whose watchers have left.
    fn sweep(&mut self) {
        let Self { jobs, by_stage } = self;
        jobs.retain(|_, watched| watched.receiver_count() > 0);
        by_stage.retain(|_, ids| {
            ids.retain(|id| jobs.contains_key(id));
            !ids.is_empty()
        });
    }
}

impl Watchers {
    /// What is told about a live job, which uses these stages, from now on.
    pub(crate) fn watch(
        &self,
        id: &JobId,
        stages: impl Iterator<Item = StageKey>,
    ) -> broadcast::Receiver<JobEvent> {
        let mut watched = self.lock();
        // A channel takes its room at once: those whose watchers have left go first.
        watched.sweep();
        if !watched.jobs.contains_key(id) {
            for key in stages {
                watched.by_stage.entry(key).or_default().push(id.clone());
            }
        }
        let channel = watched.jobs.entry(id.clone());
        channel
            .or_insert_with(|| broadcast::channel(BACKLOG).0)
            .subscribe()
    }

    /// Whether somebody watches a job.
    pub(crate) fn has(&self, id: &JobId) -> bool {
        self.lock().jobs.contains_key(id)
    }

    /// The watched jobs that use a stage.
    pub(crate) fn of_stage(&self, key: &StageKey) -> Vec<JobId> {
        self.lock().by_stage.get(key).cloned().unwrap_or_default()
    }

    /// Tells those who watch a job; forgets it once they have gone or nothing follows.
    pub(crate) fn tell(&self, id: &JobId, event: JobEvent) {
        let mut watched = self.lock();
        let last = event.is_last();
        let channel = watched.jobs.get(id);
        if channel.is_some_and(|channel| channel.send(event).is_err() || last) {
            watched.jobs.remove(id);
            watched.sweep();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        // What a panic leaves half done under the lock is swept with the next watcher.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap as Map;

    use nettailor_domain::backbone::BackboneName;
    use nettailor_domain::ids::Digest;
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
            user: Default::default(),
            priority: 0,
            retry_of: None,
            failure_class: None,
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
        let stage = StageKey(Digest::of(b"stage"));
        let mut told = watchers.watch(&a, std::iter::once(stage));
        watchers.tell(&a, event("a", JobPhase::Running));
        watchers.tell(&a, event("a", JobPhase::Failed));
        assert!(!watchers.has(&a), "nothing follows");
        assert!(!told.try_recv().unwrap().is_last());
        assert!(told.try_recv().unwrap().is_last());

        drop(watchers.watch(&a, std::iter::once(stage)));
        let _watching = watchers.watch(&b, std::iter::once(stage));
        assert!(!watchers.has(&a), "its watcher has left");
        assert!(watchers.has(&b));
        assert_eq!(watchers.of_stage(&stage), [b]);
    }
}
