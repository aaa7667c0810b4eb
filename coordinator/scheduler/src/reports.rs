//! Ranks end: what workers report about them.

use nettailor_domain::architecture::Selection;
use nettailor_domain::ids::{Seat, StageKey, WorkerId};
use nettailor_domain::stage::{FrontierPoint, Infeasible, StageKind, StageOutcome, StageResult, Tailored};
use nettailor_domain::trainer::{Failure, FailureClass};

use crate::effect::Effect;
use crate::event::SessionNumber;
use crate::sabotage::{self, Sabotage};
use crate::scheduler::Scheduler;
use crate::stage::Ending;
use crate::worker::Link;

/// What a report of a rank's end is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Report {
    /// It counts.
    Current,
    /// Its attempt vanished and may yet be taken up again: it counts, too.
    Parted,
    /// Its attempt is over, and it was waited for only to free its slot.
    Late,
    /// It says nothing new.
    Void,
}

impl Scheduler {
    /// A rank is done. That counts if its attempt is current, and the attempt is done with its last rank; the report is
    /// acknowledged in any case, so that the agent forgets it.
    pub(crate) fn seat_finished(
        &mut self,
        worker: &WorkerId,
        session: SessionNumber,
        seat: Seat,
        result: Option<Box<StageResult>>,
    ) {
        let report = self.take_report(worker, session, seat);
        if !matches!(report, Report::Current | Report::Parted) {
            return;
        }
        let key = seat.attempt.stage;
        let result = result.filter(|_| seat.rank == 0);
        if let Some(message) = self.misfit(seat, result.as_deref()) {
            let class = FailureClass::Internal;
            self.reunite(key);
            return self.fault(seat, Failure { class, message });
        }
        self.remember_cached(worker, key, result.as_deref());
        let Some(running) = self.stage_mut(key).live_mut(worker, seat) else {
            return;
        };
        running.ranks[seat.rank as usize].done = true;
        running.result = running.result.take().or(result);
        let all_done = running.ranks.iter().all(|rank| rank.done);
        match running.result.take_if(|_| all_done) {
            Some(result) => self.complete(key, result),
            None if report == Report::Current => self.keep_stage(key),
            // What is kept says that it is over.
            None => self.show(key),
        }
    }

    /// A rank ended without being done.
    pub(crate) fn seat_failed(
        &mut self,
        worker: &WorkerId,
        session: SessionNumber,
        seat: Seat,
        failure: Failure,
    ) {
        match self.take_report(worker, session, seat) {
            Report::Current => {}
            Report::Parted => {
                let key = seat.attempt.stage;
                let vanished = self.stages[&key].vanished();
                let ending = vanished.and_then(|vanished| vanished.running.ending);
                if failure.class == FailureClass::Lost && ending.is_none() {
                    // It lost the others for good.
                    let reason = format!("rank {} on {worker} ended: {failure}", seat.rank);
                    self.show(key);
                    return self.disband(key, &reason);
                }
                // The attempt ended by this and not with the worker that is away.
                self.reunite(key);
            }
            Report::Late => return self.explain_loss(seat, worker, failure),
            Report::Void => return,
        }
        let stage = &self.stages[&seat.attempt.stage];
        let Some(running) = stage.current(worker, seat) else {
            return;
        };
        let yields = running.ending == Some(Ending::Yield);
        let overdue = matches!(running.ending, Some(Ending::Deadline { .. }));
        if failure.class != FailureClass::Lost || overdue {
            // Agents report as lost what they were told to stop: past its deadline that is the attempt's own fault.
            return self.fault(seat, failure);
        }
        let gang = running.open_seats(seat.attempt);
        let away = gang
            .iter()
            .find(|(other, name)| *other != seat && self.is_away(name));
        if let Some((away, name)) = away.cloned() {
            let message = format!("{name} is disconnected; {worker} says: {failure}");
            let wait = self.loss_wait(seat.attempt.stage);
            self.lose(away, Some(name), &message, wait);
        } else if gang.len() == 1 || yields || gang.iter().any(|(_, name)| self.is_draining(name)) {
            // Agents report as lost what they refuse, too, and what they leave behind. That is nobody's fault, and its peers
            // may be the first to say it.
            self.give_back(seat, failure);
        } else {
            // Ranks lost each other, whatever it was that ended one of them.
            self.lose(seat, None, &failure.message, self.config.loss_wait);
        }
    }

    fn is_away(&self, name: &WorkerId) -> bool {
        let worker = self.workers.get(name);
        worker.is_none_or(|worker| matches!(worker.link, Link::Disconnected { .. }))
    }

    fn is_draining(&self, name: &WorkerId) -> bool {
        let worker = self.workers.get(name);
        worker.is_some_and(|worker| matches!(worker.link, Link::Draining(_)))
    }

    /// A worker speaks of a seat.
    pub(crate) fn seat_runs(&mut self, worker: &WorkerId, session: SessionNumber, seat: Seat) {
        if !self.heard(worker, session) {
            return;
        }
        if !self.is_current(worker, seat) && !self.takes_slot(worker, seat) {
            self.counters.stale_reports += 1;
        }
        self.reached(worker, seat);
    }

    /// A rank of the latest attempt has reached its worker.
    pub(crate) fn reached(&mut self, worker: &WorkerId, seat: Seat) {
        if let Some(stage) = self.stages.get_mut(&seat.attempt.stage)
            && let Some(running) = stage.live_mut(worker, seat)
        {
            running.ranks[seat.rank as usize].reached = true;
        }
    }

    /// Acknowledges the report of a rank's end, frees its slot, and says what the report is worth.
    fn take_report(&mut self, worker: &WorkerId, session: SessionNumber, seat: Seat) -> Report {
        if !self.heard(worker, session) {
            return Report::Void;
        }
        let held = !sabotage::is(Sabotage::Leaked) && self.free_slot(worker, seat);
        self.effect(Effect::Acknowledge {
            worker: worker.clone(),
            session,
            seat,
        });
        if self.is_current(worker, seat) {
            self.reached(worker, seat);
            return Report::Current;
        }
        if self.is_parted(worker, seat) {
            return Report::Parted;
        }
        let stage = self.stages.get(&seat.attempt.stage);
        if stage.is_some_and(|stage| stage.took_in(seat)) {
            self.counters.duplicate_reports += 1;
        } else {
            self.counters.stale_reports += 1;
        }
        if held { Report::Late } else { Report::Void }
    }

    /// What is wrong with what a rank reported as it was done; `None` if nothing.
    fn misfit(&self, seat: Seat, result: Option<&StageResult>) -> Option<String> {
        let key = seat.attempt.stage;
        let kind = self.stages[&key].kind;
        let result = match (seat.rank, result) {
            (0, None) => return Some(format!("the worker reported {kind} as done without a result")),
            (_, None) => return None,
            (_, Some(result)) => result,
        };
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
        let kind = self.stages[&key].kind;
        let chosen = || self.choice(key).ok().flatten().map(|(selection, _)| selection.k);
        let (asked, found) = match outcome {
            StageOutcome::Source { .. } => (kind == StageKind::Source, "a source".into()),
            StageOutcome::Teacher { .. } => (kind == StageKind::Teacher, "a teacher".into()),
            StageOutcome::Student { .. } => (kind == StageKind::Student, "a student".into()),
            StageOutcome::Candidate(Tailored { point, .. }) => (
                kind == StageKind::Candidate(point.k),
                format!("candidate({})", point.k),
            ),
            StageOutcome::Infeasible(Infeasible { k, .. }) => (
                kind == StageKind::Candidate(*k),
                format!("infeasible candidate({k})"),
            ),
            StageOutcome::Search {
                frontier,
                infeasible,
                selection,
                tailored,
            } => {
                if kind != StageKind::Search {
                    return Some("a search".into());
                }
                let ladder = self.planned_by(key).blueprint().ladder();
                return unfit_search(&ladder, frontier, infeasible)
                    .or_else(|| unfit_choice(selection, frontier, tailored));
            }
            StageOutcome::Select { selection, .. } => (
                chosen() == Some(selection.k),
                format!("a measurement of candidate({})", selection.k),
            ),
        };
        (!asked).then_some(found)
    }

    /// A worker that ran a rank has fetched what it reads, and that of rank 0 holds what it wrote.
    fn remember_cached(&mut self, name: &WorkerId, key: StageKey, result: Option<&StageResult>) {
        let files = self.inputs(key);
        let weights = result.and_then(|result| result.weights);
        if let Some(worker) = self.workers.get_mut(name) {
            for file in files.iter().chain(&weights) {
                worker.cached.insert(file.digest);
                self.holders.entry(file.digest).or_default().insert(name.clone());
            }
        }
    }
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
