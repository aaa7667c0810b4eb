//! What an attempt is to do, and with what.

use nettailor_domain::architecture::{CandidateScore, Selection, select};
use nettailor_domain::ids::{Seat, StageKey};
use nettailor_domain::session::Order;
use nettailor_domain::stage::{Artifact, Infeasible, NothingLeft, StageKind, StageOutcome, StageResult};
use nettailor_domain::task::BackboneInput;
use nettailor_domain::trainer::{Failure, FailureClass};

use crate::jobs::teacher_held_out;
use crate::scheduler::Scheduler;
use crate::stage::Stage;

impl Scheduler {
    /// Everything the agents need for the ranks of a stage's latest attempt: one order for each.
    pub(crate) fn orders(&self, key: StageKey, world_size: u32) -> impl Iterator<Item = Order> {
        let stage = &self.stages[&key];
        let attempt = stage.attempt();
        let order = Order {
            seat: Seat { attempt, rank: 0 },
            world_size,
            spec: self.planned_by(key).blueprint().spec(stage.kind),
            backbone: self.backbone(key),
            data: self.data(key),
            parents: self.parent_results(key).into_iter().cloned().collect(),
            selection: self.choice(key).ok().flatten().map(|(selection, _)| selection),
            checkpoint: stage.checkpoint.map(|kept| kept.checkpoint.artifact),
            checkpoint_seconds: self.checkpoint_seconds(key),
            description: self.description(key),
        };
        (0..world_size).map(move |rank| Order {
            seat: Seat { attempt, rank },
            ..order.clone()
        })
    }

    /// Task and stage in words: `digits: teacher`.
    pub(crate) fn description(&self, key: StageKey) -> String {
        let stage = &self.stages[&key];
        let task = stage
            .users
            .first()
            .map(|turn| &self.job_at(turn.place.sequence).record.task.name);
        let task = task.map_or_else(String::new, |name| format!("{name}: "));
        format!("{task}{}", stage.kind)
    }

    /// Seconds between checkpoints: the shortest time that one of the live jobs asks for.
    fn checkpoint_seconds(&self, key: StageKey) -> u32 {
        let users = self.stages[&key].users.iter();
        users
            .map(|turn| {
                self.job_at(turn.place.sequence)
                    .record
                    .task
                    .resources
                    .checkpoint_seconds
            })
            .min()
            .unwrap_or(0)
    }

    /// The backbone's weights that a stage reads: those that were submitted, or those that its source made.
    pub(crate) fn backbone(&self, key: StageKey) -> Option<Artifact> {
        let made = || self.parent(key, StageKind::Source)?.result()?.weights;
        self.submitted_backbone(key).or_else(made)
    }

    /// The blob of the backbone's weights, if they were submitted.
    fn submitted_backbone(&self, key: StageKey) -> Option<Artifact> {
        let job = self.planned_by(key);
        match job.inputs.backbone {
            BackboneInput::Weights(digest) => Some(Artifact {
                digest,
                bytes: job.input_bytes[0],
            }),
            BackboneInput::Source { .. } => None,
        }
    }

    /// The data archive's blob.
    fn data(&self, key: StageKey) -> Artifact {
        let job = self.planned_by(key);
        match (&job.inputs.backbone, self.stages[&key].kind) {
            (BackboneInput::Source { data, .. }, StageKind::Source) => Artifact {
                digest: data.archive,
                bytes: job.input_bytes[0],
            },
            _ => Artifact {
                digest: job.inputs.data.archive,
                bytes: job.input_bytes[1],
            },
        }
    }

    /// A stage's parents, as far as they have results, in the order of the graph.
    fn parents(&self, key: StageKey) -> impl Iterator<Item = (&Stage, &StageResult)> {
        let parents = self.stages[&key].parents.iter();
        parents.filter_map(|parent| {
            let stage = &*self.stages[parent];
            Some((stage, stage.result()?))
        })
    }

    /// A stage's parent of this kind.
    pub(crate) fn parent(&self, key: StageKey, kind: StageKind) -> Option<&Stage> {
        let parents = self.stages[&key].parents.iter();
        parents
            .map(|parent| &*self.stages[parent])
            .find(|stage| stage.kind == kind)
    }

    /// The results that the trainer reads: the teacher and the student as far as they are parents; for select the
    /// teacher and what left the chosen candidate. What a source made is the backbone.
    fn parent_results(&self, key: StageKey) -> Vec<&StageResult> {
        let winner = self.choice(key).ok().flatten().map(|(_, winner)| winner);
        let read = |stage: &Stage| match stage.kind {
            StageKind::Source | StageKind::Select => false,
            StageKind::Teacher | StageKind::Student => true,
            StageKind::Candidate(_) | StageKind::Search => Some(stage.key) == winner,
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
            .chain([self.data(key)])
            .chain(weights)
            .collect()
    }

    /// What a select stage is to measure: the choice, and the stage that left the chosen candidate; `None` for other
    /// stages.
    ///
    /// # Errors
    /// No candidate is feasible.
    pub(crate) fn choice(&self, key: StageKey) -> Result<Option<(Selection, StageKey)>, Failure> {
        if self.stages[&key].kind != StageKind::Select {
            return Ok(None);
        }
        let tolerance = self.planned_by(key).blueprint().tolerance();
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
                points.map(|point| (stage.key, point.score()))
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
        StageOutcome::Search { selection, .. } => Some((selection, search.key)),
        StageOutcome::Source { .. }
        | StageOutcome::Teacher { .. }
        | StageOutcome::Student { .. }
        | StageOutcome::Candidate(_)
        | StageOutcome::Infeasible(_)
        | StageOutcome::Select { .. } => None,
    }
}
