//! Stages meet slots.

use std::cmp::Reverse;

use nettailor_domain::architecture::{Selection, select};
use nettailor_domain::ids::{StageKey, WorkerId};
use nettailor_domain::session::Order;
use nettailor_domain::stage::{Artifact, StageOutcome, StageResult, StageWork};
use nettailor_domain::trainer::{Failure, FailureClass};

use crate::effect::Effect;
use crate::jobs::teacher_held_out;
use crate::scheduler::Scheduler;
use crate::stage::{Pending, Place, Running, State, Wait};
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
            backbone: stage.backbone(),
            data: stage.data(),
            parents: self.parent_results(key).into_iter().cloned().collect(),
            selection: self.choice(key).ok().flatten().map(|(selection, _)| selection),
            description: format!("{task}{}", stage.kind()),
        }
    }

    /// The results that the trainer reads: the teacher and the student as far as they are parents; for select the
    /// teacher and the chosen candidate.
    fn parent_results(&self, key: StageKey) -> Vec<&StageResult> {
        let parents = &self.stages[&key].planned.parents;
        let result = |key: &StageKey| self.stages[key].result();
        match self.choice(key) {
            Ok(Some((_, winner))) => parents
                .iter()
                .take(1)
                .chain([&winner])
                .filter_map(result)
                .collect(),
            Ok(None) | Err(_) => parents.iter().filter_map(result).collect(),
        }
    }

    /// What a stage reads from the artifact store.
    pub(crate) fn inputs(&self, key: StageKey) -> Vec<Artifact> {
        let stage = &self.stages[&key];
        let weights = self
            .parent_results(key)
            .into_iter()
            .filter_map(|result| result.weights);
        [stage.backbone(), stage.data()]
            .into_iter()
            .chain(weights)
            .collect()
    }

    /// The candidate that a select stage is to measure; `None` for other stages.
    ///
    /// # Errors
    /// No candidate is feasible.
    pub(crate) fn choice(&self, key: StageKey) -> Result<Option<(Selection, StageKey)>, Failure> {
        let stage = &self.stages[&key];
        let StageWork::Select { tolerance } = stage.planned.spec.work else {
            return Ok(None);
        };
        let mut scores = Vec::new();
        let mut keys = Vec::new();
        let mut infeasible = Vec::new();
        for parent in stage.planned.parents.iter().skip(1) {
            let Some(result) = self.stages[parent].result() else {
                continue;
            };
            if let Some(score) = result.outcome.candidate_score() {
                scores.push(score);
                keys.push(*parent);
            } else if let StageOutcome::Infeasible { k, reason } = &result.outcome {
                infeasible.push(format!("k = {k}: {reason}"));
            }
        }
        let teacher = stage
            .planned
            .parents
            .first()
            .and_then(|teacher| teacher_held_out(&self.stages[teacher]));
        let selection = teacher.and_then(|teacher| select(&scores, teacher, tolerance));
        let winner = selection.and_then(|s| {
            scores
                .iter()
                .position(|score| score.k == s.k)
                .map(|i| (s, keys[i]))
        });
        winner.map(Some).ok_or_else(|| Failure {
            class: FailureClass::Input,
            message: format!(
                "no candidate leaves a network ({}): ask for smaller candidates.k or a lower proxy_threshold",
                infeasible.join("; ")
            ),
        })
    }
}
