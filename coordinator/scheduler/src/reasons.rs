//! Why things stand where they stand, in words.

use nettailor_domain::explain::Binding;
use nettailor_domain::ids::WorkerId;
use nettailor_domain::trainer::FailureClass;

use crate::job::Job;
use crate::line::{Need, Ticket};
use crate::pool::Slots;
use crate::scheduler::Scheduler;
use crate::stage::{Ending, Pending, Running, Setback, Stage, State, Wait};
use crate::view::{StagePhase, WorkerPhase};
use crate::words::{class, cordoned, count, gang, some, time_of_day, until, why};
use crate::worker::{Link, Worker};

/// What the workers offer together.
pub(crate) struct Capacity {
    slots: u32,
    used: u32,
}

impl Scheduler {
    pub(crate) fn capacity(&self) -> Capacity {
        let mut capacity = Capacity { slots: 0, used: 0 };
        for worker in self.workers.values().filter(|worker| worker.takes_work()) {
            capacity.slots += worker.slots;
            capacity.used += worker.used();
        }
        capacity
    }

    /// What a live job is at: its first running stage, else the first that could run.
    pub(crate) fn active_reason(&self, job: &Job, capacity: &Capacity) -> String {
        if let Some(pause) = &job.status.paused {
            let left = until(pause.until, self.now.elapsed);
            return format!("paused for {left} more: {}", why(&pause.reason));
        }
        let stages = || job.record.stages.iter().map(|key| &self.stages[key]);
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
            format!("{} {}{more}", stage.kind, self.stage_reason(stage, capacity))
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
        match (&pending.wait, retry) {
            (Wait::Idle, _) => "no live job asks for it".to_owned(),
            (Wait::Parents, _) => {
                let parents = stage.parents.iter().map(|key| &self.stages[key]);
                let missing = parents
                    .filter(|parent| !parent.is_done())
                    .map(|parent| parent.kind.to_string());
                format!("waits for {}", missing.collect::<Vec<_>>().join(", "))
            }
            (Wait::Slots(ticket), None) => self.slots_reason(stage, ticket, capacity),
            (Wait::Slots(ticket), Some((retry, message))) => {
                let reason = self.slots_reason(stage, ticket, capacity);
                format!("{reason} ({retry} after: {message})")
            }
            (Wait::BackOff(at), None) => format!("retry in {}", until(*at, self.now.elapsed)),
            (Wait::BackOff(at), Some((retry, message))) => {
                format!("{retry} in {} after: {message}", until(*at, self.now.elapsed))
            }
            (Wait::SetAside(at), _) => format!(
                "set aside for {} more: it lost {} workers in a row and may be what ends them; look at their logs and memory",
                until(*at, self.now.elapsed),
                stage.losses
            ),
        }
    }

    /// Which retry the next attempt is.
    fn retry(&self, stage: &Stage, setback: &Setback) -> String {
        match setback.failure.class {
            FailureClass::Lost if stage.losses == 0 => "next attempt".to_owned(),
            FailureClass::Lost => format!("loss {} in a row, next attempt", stage.losses),
            _ => format!("retry {} of {}", stage.faults + 1, self.max_attempts(stage.key)),
        }
    }

    /// Why a ready stage does not run.
    fn slots_reason(&self, stage: &Stage, ticket: &Ticket, capacity: &Capacity) -> String {
        let Capacity { slots, used } = *capacity;
        let Need { labels, least } = &ticket.need;
        let with = if labels.is_empty() {
            String::new()
        } else {
            format!(" with {labels}")
        };
        match self.waiting_binding(stage.key, ticket) {
            Binding::NoWorker { unavailable: 0 } => "waits: no worker is connected".to_owned(),
            Binding::NoWorker { unavailable } => format!(
                "waits: no worker takes new work, {} draining or out of use",
                count(unavailable, "worker")
            ),
            Binding::Limit {
                user, in_use, limit, ..
            } => format!(
                "waits: {user} has {in_use} of at most {} and this needs {least} more",
                count(limit, "slot"),
            ),
            Binding::Slots { connected, .. } if connected < *least => {
                let together = self.pools.sum(Slots::All, labels);
                if together < *least {
                    format!("needs {}{with}; {together} connected", count(*least, "slot"))
                } else {
                    let needs = count(*least, "slot");
                    format!("needs {needs}{with} on workers of one device; {connected} connected")
                }
            }
            Binding::Kept { other } => format!("waits: free slots are kept for {other}"),
            _ if self.is_impatient(stage.key) && self.front() == Some(stage.key) => format!(
                "waits for {}{with}: {used} of {slots} busy, those that become free are kept for it",
                some(*least, "free slot")
            ),
            _ => format!(
                "waits for {}{with}: {used} of {slots} busy",
                some(*least, "free slot")
            ),
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
        if let (None, Some(yielding)) = (running.ending, &running.yielding) {
            let why = yielding.cause.words();
            return format!("runs on {on} and makes room after its next checkpoint: {why}");
        }
        match running.ending {
            Some(Ending::Yield) => format!("is being stopped on {on}: it makes room"),
            None => format!("runs on {on} since {}", time_of_day(running.started_ms)),
            Some(Ending::Unneeded) => {
                format!("is being stopped on {on}: no live job asked for it any more")
            }
            Some(Ending::Deadline { minutes }) => {
                format!("is being stopped on {on}: it ran for longer than {minutes} min")
            }
        }
    }

    pub(crate) fn worker_phase(&self, name: &WorkerId, worker: &Worker) -> (WorkerPhase, String) {
        let held = count(worker.used(), "rank");
        if let Link::Disconnected { until: end, .. } = worker.link {
            let left = until(end, self.now.listened);
            let reason = format!("disconnected; waiting for it and its {held} for another {left}");
            return (WorkerPhase::Disconnected, reason);
        }
        let admission = self.admissions.get(name);
        if let Some(cordon) = admission.and_then(|admission| admission.cordon.as_ref()) {
            let what = cordoned(cordon.drain, &cordon.reason);
            return (WorkerPhase::Cordoned, format!("{what}; {held} left"));
        }
        if let Some(at) = admission.and_then(|admission| admission.set_aside) {
            let left = until(at, self.now.elapsed);
            let broke = count(
                admission.map_or(0, |admission| admission.strikes.len() as u32),
                "stage",
            );
            let reason = format!("left alone for {left}: {broke} broke on it in a row; {held} left");
            return (WorkerPhase::SetAside, reason);
        }
        match worker.link {
            Link::Draining(_) => (WorkerPhase::Draining, format!("takes no new work; {held} left")),
            Link::Ready(_) | Link::Disconnected { .. } => (
                WorkerPhase::Ready,
                format!("{} of {} slots busy", worker.used(), worker.slots),
            ),
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
