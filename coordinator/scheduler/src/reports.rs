//! Attempts end: what workers report about them.

use nettailor_domain::architecture::Selection;
use nettailor_domain::ids::{Attempt, StageKey, WorkerId};
use nettailor_domain::stage::{FrontierPoint, Infeasible, StageOutcome, StageResult, StageWork, Tailored};
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
        if let Some(found) = self.other_than_asked(key, &result.outcome) {
            return Some(format!(
                "the trainer reported {found} where the result of {kind} was expected"
            ));
        }
        if result.outcome.leaves_weights() && result.weights.is_none() {
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

    /// What an outcome is, in words, unless it is one of this stage.
    fn other_than_asked(&self, key: StageKey, outcome: &StageOutcome) -> Option<String> {
        let work = &self.stages[&key].planned.spec.work;
        let chosen = || self.choice(key).ok().flatten().map(|(selection, _)| selection.k);
        let (asked, found) = match outcome {
            StageOutcome::Source { .. } => (matches!(work, StageWork::Source { .. }), "a source".into()),
            StageOutcome::Teacher { .. } => (matches!(work, StageWork::Teacher { .. }), "a teacher".into()),
            StageOutcome::Student { .. } => (matches!(work, StageWork::Student { .. }), "a student".into()),
            StageOutcome::Candidate(Tailored { point, .. }) => {
                (is_candidate(work, point.k), format!("candidate({})", point.k))
            }
            StageOutcome::Infeasible(Infeasible { k, .. }) => {
                (is_candidate(work, *k), format!("infeasible candidate({k})"))
            }
            StageOutcome::Search {
                frontier,
                infeasible,
                selection,
                tailored,
            } => {
                let StageWork::Search { ladder, .. } = work else {
                    return Some("a search".into());
                };
                return unfit_search(ladder, frontier, infeasible)
                    .or_else(|| unfit_choice(selection, frontier, tailored));
            }
            StageOutcome::Select { selection, .. } => (
                chosen() == Some(selection.k),
                format!("a measurement of candidate({})", selection.k),
            ),
        };
        (!asked).then_some(found)
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

fn is_candidate(work: &StageWork, asked: usize) -> bool {
    matches!(work, StageWork::Candidate { k, .. } if *k == asked)
}

/// What is wrong with what a search tried; `None` if nothing.
fn unfit_search(ladder: &[usize], frontier: &[FrontierPoint], infeasible: &[Infeasible]) -> Option<String> {
    let tried = frontier.iter().map(|point| point.k);
    let mut tried = tried.chain(infeasible.iter().map(|one| one.k));
    if let Some(k) = tried.find(|k| !ladder.contains(k)) {
        return Some(format!(
            "a search over candidate({k}), which is not on its ladder,"
        ));
    }
    let ascends = frontier.is_sorted_by(|a, b| a.k < b.k);
    (!ascends).then(|| "a frontier that does not ascend".into())
}

/// What is wrong with what a search chose; `None` if nothing.
fn unfit_choice(selection: &Selection, frontier: &[FrontierPoint], tailored: &Tailored) -> Option<String> {
    let fits = tailored.point.k == selection.k && frontier.contains(&tailored.point);
    (!fits).then(|| {
        format!(
            "a choice of candidate({}), which is not on the frontier,",
            selection.k
        )
    })
}
