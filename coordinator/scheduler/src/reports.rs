//! Attempts end: what workers report about them.

use nettailor_domain::ids::{Attempt, StageKey, WorkerId};
use nettailor_domain::stage::{StageKind, StageOutcome, StageResult};
use nettailor_domain::trainer::{Failure, FailureClass};

use crate::effect::Effect;
use crate::event::SessionNumber;
use crate::scheduler::Scheduler;
use crate::stage::{Ending, State};

impl Scheduler {
    /// An attempt is done. Its result counts if the attempt is current; the report is acknowledged in any case, so
    /// that the agent forgets it.
    pub(crate) fn attempt_finished(
        &mut self,
        worker: &WorkerId,
        session: SessionNumber,
        attempt: Attempt,
        result: StageResult,
    ) {
        if !self.take_report(worker, session, attempt) {
            return;
        }
        match self.misfit(attempt.stage, &result) {
            Some(message) => self.fault(
                attempt.stage,
                Failure {
                    class: FailureClass::Internal,
                    message,
                },
            ),
            None => {
                self.remember_cached(worker, attempt.stage, &result);
                self.complete(attempt.stage, result);
            }
        }
    }

    /// An attempt ended without a result.
    pub(crate) fn attempt_failed(
        &mut self,
        worker: &WorkerId,
        session: SessionNumber,
        attempt: Attempt,
        failure: Failure,
    ) {
        if !self.take_report(worker, session, attempt) {
            return;
        }
        // Agents report as lost what they were told to stop, refuse or do not run. Past its deadline that is the attempt's
        // own fault, else nobody's: the worker is there to tell.
        let running = self.stages[&attempt.stage].running();
        let overdue = running.is_some_and(|running| matches!(running.ending, Some(Ending::Deadline { .. })));
        if failure.class == FailureClass::Lost && !overdue {
            self.give_back(attempt.stage, failure);
        } else {
            self.fault(attempt.stage, failure);
        }
    }

    /// A worker speaks of an attempt.
    pub(crate) fn attempt_runs(&mut self, worker: &WorkerId, session: SessionNumber, attempt: Attempt) {
        if self.heard(worker, session) && self.is_current(worker, attempt) {
            self.reached(attempt.stage);
        }
    }

    /// A stage's current attempt has reached its worker.
    pub(crate) fn reached(&mut self, key: StageKey) {
        if let State::Running(running) = &mut self.stage_mut(key).state {
            running.reached = true;
        }
    }

    /// Acknowledges a report, frees the attempt's slot, and says whether the report counts.
    fn take_report(&mut self, worker: &WorkerId, session: SessionNumber, attempt: Attempt) -> bool {
        if !self.heard(worker, session) {
            return false;
        }
        self.free_slot(worker, attempt);
        self.effect(Effect::Acknowledge {
            worker: worker.clone(),
            session,
            attempt,
        });
        if self.is_current(worker, attempt) {
            return true;
        }
        let stage = self.stages.get(&attempt.stage);
        if stage.is_some_and(|stage| stage.is_done() && stage.attempt() == attempt) {
            self.counters.duplicate_reports += 1;
        } else {
            self.counters.stale_reports += 1;
        }
        false
    }

    /// What is wrong with a result of this stage; `None` if nothing.
    fn misfit(&self, key: StageKey, result: &StageResult) -> Option<String> {
        let kind = self.stages[&key].kind();
        let chosen = || self.choice(key).ok().flatten().map(|(selection, _)| selection.k);
        let (fits, found, leaves_weights) = match (&result.outcome, kind) {
            (StageOutcome::Teacher { .. }, _) => (kind == StageKind::Teacher, "a teacher".into(), true),
            (StageOutcome::Student { .. }, _) => (kind == StageKind::Student, "a student".into(), true),
            (StageOutcome::Candidate { k, .. }, _) => {
                (kind == StageKind::Candidate(*k), format!("candidate({k})"), true)
            }
            (StageOutcome::Infeasible { k, .. }, _) => (
                kind == StageKind::Candidate(*k),
                format!("infeasible candidate({k})"),
                false,
            ),
            (StageOutcome::Select { selection, .. }, StageKind::Select) => (
                chosen() == Some(selection.k),
                format!("a measurement of candidate({})", selection.k),
                false,
            ),
            (StageOutcome::Select { .. }, _) => (false, "a measurement".into(), false),
        };
        if !fits {
            return Some(format!(
                "the trainer reported {found} where the result of {kind} was expected"
            ));
        }
        if leaves_weights && result.weights.is_none() {
            return Some(format!(
                "the trainer reported {kind} as done without leaving its weights"
            ));
        }
        if !(result.seconds.is_finite() && result.seconds >= 0.0) {
            return Some(format!(
                "the worker reported {} s as the duration of {kind}",
                result.seconds
            ));
        }
        None
    }

    /// A worker that ran an attempt has fetched what it reads, and holds what it wrote.
    fn remember_cached(&mut self, name: &WorkerId, key: StageKey, result: &StageResult) {
        let files = self.inputs(key);
        if let Some(worker) = self.workers.get_mut(name) {
            worker
                .cached
                .extend(files.iter().chain(&result.weights).map(|file| file.digest));
        }
    }
}
