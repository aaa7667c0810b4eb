//! Stages meet slots.

use std::cmp::Reverse;

use nettailor_domain::architecture::{CandidateScore, Selection, select};
use nettailor_domain::ids::{StageKey, WorkerId};
use nettailor_domain::session::Order;
use nettailor_domain::stage::{
    Artifact, Infeasible, NothingLeft, StageKind, StageOutcome, StageResult, StageWork,
};
use nettailor_domain::trainer::{Failure, FailureClass};

use crate::effect::Effect;
use crate::jobs::teacher_held_out;
use crate::scheduler::Scheduler;
use crate::stage::{Pending, Place, Running, Stage, State, Wait};
use crate::worker::Hold;

impl Scheduler {
    /// Gives free slots to ready stages, first come first served, until one of them runs out.
    pub(crate) fn dispatch(&mut self) {
        while let Some(&(_, key)) = self.ready.first() {
            let Some(worker) = self.best_worker(key) else {
                return;
            };
            self.start(key, worker);
        }
    }

    /// Among the workers with a free slot: rather not the one where the stage failed last, then the one that holds
    /// most of its inputs, then the one with most free slots, then by name.
    fn best_worker(&self, key: StageKey) -> Option<WorkerId> {
        let failed_on = match &self.stages[&key].state {
            State::Pending(Pending {
                setback: Some(setback),
                ..
            }) => Some(&setback.worker),
            _ => None,
        };
        let inputs = if self.free.len() > 1 {
            self.inputs(key)
        } else {
            Vec::new()
        };
        let ranked = self.free.iter().map(|name| {
            let worker = &self.workers[name];
            (
                Some(name) != failed_on,
                worker.cached_bytes(&inputs),
                worker.free(),
                Reverse(name),
            )
        });
        ranked.max().map(|(.., Reverse(name))| name.clone())
    }

    /// Assigns a ready stage's next attempt to a worker with a free slot.
    fn start(&mut self, key: StageKey, worker: WorkerId) {
        let now = self.now;
        self.set_wait(key, Wait::Idle);
        let stage = self.stage_mut(key);
        let first = stage.tries() == 0;
        stage.attempts += 1;
        let attempt = stage.attempt();
        let running = Running {
            worker: worker.clone(),
            started_ms: now.wall_ms,
            started: now.elapsed,
            deadline: None,
            ending: None,
            reached: false,
        };
        stage.state = State::Running(running);
        let users: Vec<Place> = stage.users.iter().copied().collect();
        self.arm_deadline(key);
        self.keep_stage(key);
        if first {
            for place in users {
                self.job_mut(place.sequence).stages_run += 1;
            }
        }
        let order = Box::new(self.order(key));
        if let Some(host) = self.workers.get_mut(&worker) {
            host.held.insert(attempt, Hold::Working);
            if let Some(session) = host.session().map(|session| session.number) {
                self.effect(Effect::Assign {
                    worker: worker.clone(),
                    session,
                    order,
                });
            }
        }
        self.count_free(&worker);
        self.counters.assigned += 1;
    }

    /// Everything an agent needs for a stage's latest attempt.
    fn order(&self, key: StageKey) -> Order {
        let stage = &self.stages[&key];
        let task = stage
            .users
            .first()
            .map(|place| &self.job_at(place.sequence).task.name);
        let task = task.map_or_else(String::new, |name| format!("{name}: "));
        Order {
            attempt: stage.attempt(),
            spec: stage.planned.spec.clone(),
            backbone: self.backbone(key),
            data: stage.data(),
            parents: self.parent_results(key).into_iter().cloned().collect(),
            selection: self.choice(key).ok().flatten().map(|(selection, _)| selection),
            description: format!("{task}{}", stage.kind()),
        }
    }

    /// The backbone's weights that a stage reads: those that were submitted, or those that its source made.
    pub(crate) fn backbone(&self, key: StageKey) -> Option<Artifact> {
        let made = || self.parent(key, StageKind::Source)?.result()?.weights;
        self.stages[&key].submitted_backbone().or_else(made)
    }

    /// A stage's parents, as far as they have results, in the order of the graph.
    fn parents(&self, key: StageKey) -> impl Iterator<Item = (&Stage, &StageResult)> {
        let parents = self.stages[&key].planned.parents.iter();
        parents.filter_map(|parent| {
            let stage = &self.stages[parent];
            Some((stage, stage.result()?))
        })
    }

    /// A stage's parent of this kind.
    pub(crate) fn parent(&self, key: StageKey, kind: StageKind) -> Option<&Stage> {
        let parents = self.stages[&key].planned.parents.iter();
        parents
            .map(|parent| &self.stages[parent])
            .find(|stage| stage.kind() == kind)
    }

    /// The results that the trainer reads: the teacher and the student as far as they are parents; for select the
    /// teacher and what left the chosen candidate. What a source made is the backbone.
    fn parent_results(&self, key: StageKey) -> Vec<&StageResult> {
        let winner = self.choice(key).ok().flatten().map(|(_, winner)| winner);
        let read = |stage: &Stage| match stage.kind() {
            StageKind::Source | StageKind::Select => false,
            StageKind::Teacher | StageKind::Student => true,
            StageKind::Candidate(_) | StageKind::Search => Some(stage.planned.key) == winner,
        };
        self.parents(key)
            .filter_map(|(stage, result)| read(stage).then_some(result))
            .collect()
    }

    /// What a stage reads from the artifact store.
    pub(crate) fn inputs(&self, key: StageKey) -> Vec<Artifact> {
        let weights = self
            .parent_results(key)
            .into_iter()
            .filter_map(|result| result.weights);
        self.backbone(key)
            .into_iter()
            .chain([self.stages[&key].data()])
            .chain(weights)
            .collect()
    }

    /// What a select stage is to measure: the choice, and the stage that left the chosen candidate; `None` for other
    /// stages.
    ///
    /// # Errors
    /// No candidate is feasible.
    pub(crate) fn choice(&self, key: StageKey) -> Result<Option<(Selection, StageKey)>, Failure> {
        let StageWork::Select { tolerance } = self.stages[&key].planned.spec.work else {
            return Ok(None);
        };
        let chosen = match self.parent(key, StageKind::Search) {
            Some(search) => searched(search),
            None => self.choose(key, tolerance),
        };
        chosen.map(Some).ok_or_else(|| Failure {
            class: FailureClass::Input,
            message: NothingLeft(self.infeasible(key)).to_string(),
        })
    }

    /// The choice among a select stage's candidates.
    fn choose(&self, key: StageKey, tolerance: f64) -> Option<(Selection, StageKey)> {
        let teacher = teacher_held_out(self.parent(key, StageKind::Teacher)?)?;
        let (keys, scores): (Vec<StageKey>, Vec<CandidateScore>) = self
            .parents(key)
            .flat_map(|(stage, result)| {
                let points = result.outcome.frontier().iter();
                points.map(|point| (stage.planned.key, point.score()))
            })
            .unzip();
        let selection = select(&scores, teacher, tolerance)?;
        let winner = scores.iter().position(|score| score.k == selection.k)?;
        Some((selection, keys[winner]))
    }

    /// A select stage's candidates that leave no network.
    fn infeasible(&self, key: StageKey) -> Vec<Infeasible> {
        let found = |result: &StageResult| match &result.outcome {
            StageOutcome::Infeasible(infeasible) => Some(infeasible.clone()),
            StageOutcome::Source { .. }
            | StageOutcome::Teacher { .. }
            | StageOutcome::Student { .. }
            | StageOutcome::Candidate(_)
            | StageOutcome::Search { .. }
            | StageOutcome::Select { .. } => None,
        };
        self.parents(key)
            .filter_map(|(_, result)| found(result))
            .collect()
    }
}

/// The choice that a search made itself.
fn searched(search: &Stage) -> Option<(Selection, StageKey)> {
    match search.result()?.outcome {
        StageOutcome::Search { selection, .. } => Some((selection, search.planned.key)),
        StageOutcome::Source { .. }
        | StageOutcome::Teacher { .. }
        | StageOutcome::Student { .. }
        | StageOutcome::Candidate(_)
        | StageOutcome::Infeasible(_)
        | StageOutcome::Select { .. } => None,
    }
}
