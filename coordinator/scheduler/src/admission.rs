//! Whether a worker is given work: what people say, and what broke on it.

use std::collections::BTreeSet;
use std::time::Duration;

use nettailor_domain::explain::What;
use nettailor_domain::ids::{StageKey, WorkerId};
use nettailor_domain::trainer::FailureClass;

use crate::error::Rejected;
use crate::record::{Cordon, Subject, WorkerRecord};
use crate::scheduler::Scheduler;
use crate::stage::Cause;
use crate::timers::Timer;
use crate::words::{count, until};

/// Stages that break on a worker one after the other before it is left alone.
const STRIKES: usize = 3;

/// Whether a worker of this name is given work, connected or not.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    pub(crate) cordon: Option<Cordon>,
    /// Stages that broke on it since one was done there.
    pub(crate) strikes: BTreeSet<StageKey>,
    /// Until when it is left alone; a timer is armed.
    pub(crate) set_aside: Option<Duration>,
    /// When attempts were lost with it last.
    lost_at: Option<Duration>,
    /// How often it was left alone since a stage was done there.
    breaks: u32,
}

impl Admission {
    pub(crate) fn is_open(&self) -> bool {
        self.cordon.is_none() && self.set_aside.is_none()
    }
}

impl Scheduler {
    /// Whether a worker is given work, if it is there.
    pub(crate) fn admits(&self, name: &WorkerId) -> bool {
        self.admissions.get(name).is_none_or(Admission::is_open)
    }

    /// Gives a worker no new work; drained, it also loses what runs on it after the next checkpoints.
    pub(crate) fn cordon(&mut self, name: &WorkerId, reason: String, drain: bool) {
        let words = match (drain, reason.as_str()) {
            (false, "") => "cordoned".to_owned(),
            (true, "") => "drained".to_owned(),
            (false, reason) => format!("cordoned: {reason}"),
            (true, reason) => format!("drained: {reason}"),
        };
        let admission = self.admissions.entry(name.clone()).or_default();
        admission.cordon = Some(Cordon { reason, drain });
        self.draft.workers.insert(name.clone());
        self.happened(Subject::Worker(name.clone()), What::Paused, 0, words);
        self.count_free(name);
        if drain {
            self.send_away(name);
        }
    }

    /// Has everything that runs on a worker go on elsewhere.
    fn send_away(&mut self, name: &WorkerId) {
        let held = self.workers.get(name).map(|worker| worker.held.keys());
        let seats: Vec<_> = held.into_iter().flatten().copied().collect();
        for seat in seats {
            if self.is_current(name, seat) {
                self.ask_to_yield(seat.attempt.stage, Cause::Drain(name.clone()));
            }
        }
    }

    /// Gives a worker work again.
    pub(crate) fn uncordon(&mut self, name: &WorkerId) -> Result<(), Rejected> {
        let Some(admission) = self.admissions.remove(name) else {
            let known = self.workers.contains_key(name);
            return known
                .then_some(())
                .ok_or_else(|| Rejected::UnknownWorker(name.clone()));
        };
        if let Some(at) = admission.set_aside {
            self.timers.disarm(at, Timer::Admit(name.clone()));
        }
        self.draft.workers.insert(name.clone());
        let reason = "on request".to_owned();
        self.happened(Subject::Worker(name.clone()), What::Resumed, 0, reason);
        self.count_free(name);
        Ok(())
    }

    /// A stage broke on a worker. Whose fault that was shows when it is tried elsewhere: if it breaks there too, it is the stage's,
    /// and is held against no worker any more.
    pub(crate) fn strike(&mut self, name: &WorkerId, key: StageKey, class: FailureClass) {
        if matches!(class, FailureClass::Input | FailureClass::Deadline) {
            return;
        }
        let first = self
            .stage_mut(key)
            .broke_on
            .get_or_insert_with(|| name.clone())
            .clone();
        if first != *name {
            return self.unstrike(&first, key);
        }
        let now = self.now.elapsed;
        let (first, longest) = (self.config.break_first, self.config.break_longest);
        let admission = self.admissions.entry(name.clone()).or_default();
        // However much ran on it: it went once.
        if class == FailureClass::Lost && admission.lost_at.replace(now) == Some(now) {
            return;
        }
        admission.strikes.insert(key);
        if admission.strikes.len() < STRIKES || admission.set_aside.is_some() {
            return;
        }
        let time = first.saturating_mul(1 << admission.breaks.min(8)).min(longest);
        admission.breaks += 1;
        let at = now.saturating_add(time);
        admission.set_aside = Some(at);
        let broke = count(admission.strikes.len() as u32, "stage");
        self.timers.arm(at, Timer::Admit(name.clone()));
        let reason = format!("{broke} broke on it in a row; left alone for {}", until(at, now));
        self.happened(Subject::Worker(name.clone()), What::Paused, 0, reason);
        self.count_free(name);
    }

    /// What broke on a worker is not held against it after all.
    pub(crate) fn unstrike(&mut self, name: &WorkerId, key: StageKey) {
        let Some(admission) = self.admissions.get_mut(name) else {
            return;
        };
        admission.strikes.remove(&key);
        if admission.strikes.len() < STRIKES
            && let Some(at) = admission.set_aside.take()
        {
            self.timers.disarm(at, Timer::Admit(name.clone()));
            self.count_free(name);
        }
    }

    /// An attempt that was lost with a worker was not lost, or not by its doing.
    pub(crate) fn forgive(&mut self, name: &WorkerId, key: StageKey) {
        self.stage_mut(key).broke_on.take_if(|first| first == name);
        self.unstrike(name, key);
    }

    /// A running stage that runs on a worker which is drained is to go on elsewhere.
    pub(crate) fn mind_drains(&mut self, key: StageKey) {
        let running = self.stages.get(&key).and_then(|stage| stage.running());
        let open = running.into_iter().flat_map(|running| &running.ranks);
        let mut workers = open.filter(|rank| !rank.done).map(|rank| &rank.worker);
        let drained = workers.find(|name| {
            let admission = self.admissions.get(*name);
            let cordon = admission.and_then(|admission| admission.cordon.as_ref());
            cordon.is_some_and(|cordon| cordon.drain)
        });
        if let Some(name) = drained.cloned() {
            self.ask_to_yield(key, Cause::Drain(name));
        }
    }

    /// A stage was done on a worker: nothing speaks against it any more.
    pub(crate) fn clear(&mut self, name: &WorkerId) {
        if let Some(admission) = self.admissions.get_mut(name)
            && admission.set_aside.is_none()
        {
            admission.strikes.clear();
            admission.breaks = 0;
        }
    }

    /// A worker was left alone for long enough. One stage that breaks sets it aside again.
    pub(crate) fn admit(&mut self, name: &WorkerId) {
        let now = self.now.elapsed;
        let Some(admission) = self.admissions.get_mut(name) else {
            return;
        };
        if admission.set_aside.take_if(|at| *at <= now).is_none() {
            return;
        }
        while admission.strikes.len() >= STRIKES {
            admission.strikes.pop_first();
        }
        let reason = "it was left alone for long enough".to_owned();
        self.happened(Subject::Worker(name.clone()), What::Resumed, 0, reason);
        self.count_free(name);
    }

    /// What is kept of a worker.
    pub(crate) fn worker_record(&self, name: &WorkerId) -> WorkerRecord {
        let admission = self.admissions.get(name);
        WorkerRecord {
            name: name.clone(),
            cordon: admission.and_then(|admission| admission.cordon.clone()),
        }
    }
}
