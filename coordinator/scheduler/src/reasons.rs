//! Why things stand where they stand, in words.

use nettailor_domain::ids::StageKey;
use nettailor_domain::trainer::FailureClass;

use crate::record::JobRecord;
use crate::scheduler::Scheduler;
use crate::stage::{Ending, Pending, Running, Setback, Stage, State, Wait};
use crate::view::{StagePhase, WorkerPhase};
use crate::words::{class, count, gang, some, time_of_day, until};
use crate::worker::{Link, Worker};

/// What the workers offer together.
pub(crate) struct Capacity {
    ready: usize,
    draining: usize,
    slots: u32,
    used: u32,
    /// Slots that one attempt could have at most.
    together: u32,
    /// For which stage free slots are kept.
    kept: Option<StageKey>,
}

impl Scheduler {
    pub(crate) fn capacity(&self) -> Capacity {
        let mut capacity = Capacity {
            ready: 0,
            draining: 0,
            slots: 0,
            used: 0,
            together: self.slots_together(),
            kept: self.front().filter(|front| self.is_impatient(*front)),
        };
        for worker in self.workers.values() {
            match worker.link {
                Link::Ready(_) => {
                    capacity.ready += 1;
                    capacity.slots += worker.slots;
                    capacity.used += worker.used();
                }
                Link::Draining(_) => capacity.draining += 1,
                Link::Disconnected { .. } => {}
            }
        }
        capacity
    }

    /// What a live job is at: its first running stage, else the first that could run.
    pub(crate) fn active_reason(&self, job: &JobRecord, capacity: &Capacity) -> String {
        let stages = || job.stages.iter().map(|key| &self.stages[key]);
        let running = stages().filter(|stage| stage.running().is_some()).count();
        let next = stages()
            .find(|stage| stage.running().is_some())
            .or_else(|| stages().find(|stage| phase(stage) == StagePhase::Queued))
            .or_else(|| stages().find(|stage| !stage.is_done()));
        let more = if running > 1 {
            format!(" (and {} more)", running - 1)
        } else {
            String::new()
        };
        next.map_or_else(String::new, |stage| {
            format!("{} {}{more}", stage.kind(), self.stage_reason(stage, capacity))
        })
    }

    pub(crate) fn stage_reason(&self, stage: &Stage, capacity: &Capacity) -> String {
        match &stage.state {
            State::Pending(pending) => self.pending_reason(stage, pending, capacity),
            State::Running(running) => self.running_reason(running),
            State::Done(done) => {
                let by = match &done.workers[..] {
                    [] => String::new(),
                    workers => format!(" by {}", gang(workers)),
                };
                format!("done{by} in {:.1} s", done.result.seconds)
            }
            State::Failed(failed) => format!(
                "failed ({}): {}",
                class(failed.failure.class),
                failed.failure.message
            ),
        }
    }

    fn pending_reason(&self, stage: &Stage, pending: &Pending, capacity: &Capacity) -> String {
        let reason = self.waiting_reason(stage, pending, capacity);
        match stage.checkpoint {
            Some(kept) => format!("{reason}; resumes after epoch {}", kept.checkpoint.epoch),
            None => reason,
        }
    }

    fn waiting_reason(&self, stage: &Stage, pending: &Pending, capacity: &Capacity) -> String {
        let retry = pending
            .setback
            .as_ref()
            .map(|setback| (self.retry(stage, setback), &setback.failure.message));
        match (pending.wait, retry) {
            (Wait::Idle, _) => "no live job asks for it".to_owned(),
            (Wait::Parents, _) => {
                let parents = stage.planned.parents.iter().map(|key| &self.stages[key]);
                let missing = parents
                    .filter(|parent| !parent.is_done())
                    .map(|parent| parent.kind().to_string());
                format!("waits for {}", missing.collect::<Vec<_>>().join(", "))
            }
            (Wait::Slots { least, .. }, None) => self.slots_reason(stage, least, capacity),
            (Wait::Slots { least, .. }, Some((retry, message))) => {
                let reason = self.slots_reason(stage, least, capacity);
                format!("{reason} ({retry} after: {message})")
            }
            (Wait::BackOff(at), None) => format!("retry in {}", until(at, self.now.elapsed)),
            (Wait::BackOff(at), Some((retry, message))) => {
                format!("{retry} in {} after: {message}", until(at, self.now.elapsed))
            }
        }
    }

    /// Which retry the next attempt is.
    fn retry(&self, stage: &Stage, setback: &Setback) -> String {
        match setback.failure.class {
            FailureClass::Lost if stage.losses == 0 => "next attempt".to_owned(),
            FailureClass::Lost => format!(
                "loss {} of at most {}, next attempt",
                stage.losses, self.config.max_losses
            ),
            _ => format!(
                "retry {} of {}",
                stage.faults + 1,
                self.max_attempts(stage.planned.key)
            ),
        }
    }

    /// Why a ready stage that needs so many slots does not run.
    fn slots_reason(&self, stage: &Stage, least: u32, capacity: &Capacity) -> String {
        let Capacity {
            ready,
            draining,
            slots,
            used,
            together,
            kept,
        } = *capacity;
        match kept {
            _ if ready == 0 && draining == 0 => "waits: no worker is connected".to_owned(),
            _ if ready == 0 => format!(
                "waits: no worker takes new work, {} draining",
                count(draining as u32, "worker")
            ),
            _ if least > slots => format!("needs {}; {slots} connected", count(least, "slot")),
            _ if least > together => format!(
                "needs {} on workers of one device; {together} connected",
                count(least, "slot")
            ),
            Some(kept) if kept == stage.planned.key => format!(
                "waits for {}: {used} of {slots} busy, those that become free are kept for it",
                some(least, "free slot")
            ),
            Some(kept) if least <= self.free_slots() => {
                format!("waits: free slots are kept for {}", self.description(kept))
            }
            _ => format!("waits for {}: {used} of {slots} busy", some(least, "free slot")),
        }
    }

    fn running_reason(&self, running: &Running) -> String {
        let away = running.ranks.iter().filter(|rank| !rank.done).find_map(|rank| {
            match self.workers.get(&rank.worker)?.link {
                Link::Disconnected { until, .. } => Some((&rank.worker, until)),
                Link::Ready(_) | Link::Draining(_) => None,
            }
        });
        if let Some((name, end)) = away {
            let left = until(end, self.now.listened);
            return format!("{name} is disconnected; waiting for it for another {left}");
        }
        let on = gang(running.workers());
        match running.ending {
            None => format!("runs on {on} since {}", time_of_day(running.started_ms)),
            Some(Ending::Unneeded) => {
                format!("is being stopped on {on}: no live job asked for it any more")
            }
            Some(Ending::Deadline { minutes }) => {
                format!("is being stopped on {on}: it ran for longer than {minutes} min")
            }
        }
    }

    pub(crate) fn worker_phase(&self, worker: &Worker) -> (WorkerPhase, String) {
        let held = count(worker.used(), "rank");
        match worker.link {
            Link::Ready(_) => (
                WorkerPhase::Ready,
                format!("{} of {} slots busy", worker.used(), worker.slots),
            ),
            Link::Draining(_) => (WorkerPhase::Draining, format!("takes no new work; {held} left")),
            Link::Disconnected { until: end, .. } => {
                let left = until(end, self.now.listened);
                (
                    WorkerPhase::Disconnected,
                    format!("disconnected; waiting for it and its {held} for another {left}"),
                )
            }
        }
    }
}

/// Where a stage stands, as shown.
pub(crate) fn phase(stage: &Stage) -> StagePhase {
    match &stage.state {
        State::Pending(Pending { wait: Wait::Idle, .. }) => StagePhase::Idle,
        State::Pending(Pending {
            wait: Wait::Parents, ..
        }) => StagePhase::Waiting,
        State::Pending(_) => StagePhase::Queued,
        State::Running(_) => StagePhase::Running,
        State::Done(_) => StagePhase::Done,
        State::Failed(_) => StagePhase::Failed,
    }
}
