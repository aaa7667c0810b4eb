//! What stages a job has, what each of them is to do, and their keys.

use serde::{Deserialize, Serialize};

use super::{StageKind, StageSpec, StageWork};
use crate::METHOD_VERSION;
use crate::backbone::BackboneName;
use crate::ids::{Digest, StageKey};
use crate::task::{
    BackboneInput, CandidateSettings, DataInput, Precision, Search, SourceSettings, TaskInputs, TaskSpec,
};

/// A stage of a job's graph, before it is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStage {
    /// Its key.
    pub key: StageKey,
    /// Its specification.
    pub spec: StageSpec,
    /// Stages whose results it needs, in the order of the graph: source, teacher, student, candidates or search.
    pub parents: Vec<StageKey>,
}

/// Work that is asked for anew though it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rerun {
    /// From which stage on.
    pub from: StageKind,
    /// For the how manieth time, from 1.
    pub number: u32,
}

/// Everything that a job's stages follow from.
#[derive(Debug, Clone, Copy)]
pub struct Blueprint<'a> {
    /// The backbone's architecture.
    pub arch: BackboneName,
    /// What was asked for.
    pub task: &'a TaskSpec,
    /// Its inputs.
    pub inputs: &'a TaskInputs,
    /// Stages that are run anew, each at most once.
    pub reruns: &'a [Rerun],
}

/// The stages of a job that runs nothing anew.
pub fn plan(arch: BackboneName, task: &TaskSpec, inputs: &TaskInputs) -> Vec<PlannedStage> {
    let blueprint = Blueprint {
        arch,
        task,
        inputs,
        reruns: &[],
    };
    blueprint.plan()
}

impl Blueprint<'_> {
    /// The stages, parents before children: source (if the backbone has no weights), teacher, student, candidates by
    /// ascending k or one search, select. Each with the places of its parents, which come first.
    pub fn outline(&self) -> Vec<(StageKind, Vec<usize>)> {
        let mut stages = Vec::new();
        // A stage that needs the weights a source stage makes has it for its first parent.
        let mut weights = Vec::new();
        if let BackboneInput::Source { .. } = self.inputs.backbone {
            stages.push((StageKind::Source, Vec::new()));
            weights.push(0);
        }
        let teacher = stages.len();
        let student = teacher + 1;
        let with = |parents: &[usize]| [&weights, parents].concat();
        stages.push((StageKind::Teacher, with(&[])));
        stages.push((StageKind::Student, with(&[teacher])));
        let tailored: Vec<StageKind> = match self.task.candidates.search {
            Search::Exhaustive => self.ladder().into_iter().map(StageKind::Candidate).collect(),
            Search::Halving => vec![StageKind::Search],
        };
        stages.extend(tailored.into_iter().map(|kind| (kind, with(&[teacher, student]))));
        let measured: Vec<usize> = std::iter::once(teacher)
            .chain(student + 1..stages.len())
            .collect();
        stages.push((StageKind::Select, with(&measured)));
        stages
    }

    /// What a stage of this kind is to do.
    pub fn spec(&self, kind: StageKind) -> StageSpec {
        let Self { task, inputs, .. } = *self;
        let rerun = self.reruns.iter().find(|rerun| rerun.from == kind);
        let rerun = rerun.map_or(0, |rerun| rerun.number);
        let (backbone, source) = match &inputs.backbone {
            BackboneInput::Weights(digest) => (Some(*digest), None),
            BackboneInput::Source { settings, data } => (None, Some((settings, data))),
        };
        if let (StageKind::Source, Some((settings, data))) = (kind, source) {
            return StageSpec {
                rerun,
                ..source_spec(self.arch, settings, data)
            };
        }
        StageSpec {
            arch: self.arch,
            backbone,
            data: inputs.data.archive,
            reading: task.data.reading(),
            classes: inputs.data.classes.clone(),
            seed: task.seed,
            precision: task.precision,
            sync_bn: task.sync_bn && kind.trains(),
            wire: if kind.trains() {
                task.wire
            } else {
                Precision::default()
            },
            rerun,
            work: self.work(kind),
        }
    }

    fn work(&self, kind: StageKind) -> StageWork {
        let task = self.task;
        // The list of k and how it is searched are the job's business, not a candidate's: adding a k must not re-run the others.
        let settings = || CandidateSettings {
            k: None,
            search: Search::Exhaustive,
            ..task.candidates.clone()
        };
        let tolerance = self.tolerance();
        match kind {
            StageKind::Source | StageKind::Teacher => StageWork::Teacher {
                training: task.teacher.clone(),
            },
            StageKind::Student => StageWork::Student {
                max_skip: task.max_skip,
                student: task.student.clone(),
            },
            StageKind::Candidate(k) => StageWork::Candidate {
                k,
                settings: settings(),
                student: task.student.clone(),
            },
            StageKind::Search => StageWork::Search {
                ladder: self.ladder(),
                tolerance,
                settings: settings(),
                student: task.student.clone(),
            },
            StageKind::Select => StageWork::Select { tolerance },
        }
    }

    /// Accuracy that may be lost, as a fraction.
    pub fn tolerance(&self) -> f64 {
        self.task.tolerance_points / 100.0
    }

    /// Numbers of main blocks to remove, ascending.
    pub fn ladder(&self) -> Vec<usize> {
        self.task.candidates.ladder(self.arch.layers())
    }

    /// The stages with their keys, parents before children.
    pub fn plan(&self) -> Vec<PlannedStage> {
        let outline = self.outline();
        let mut stages: Vec<PlannedStage> = Vec::with_capacity(outline.len());
        for (kind, parents) in outline {
            let parents = parents.into_iter().map(|place| stages[place].key).collect();
            stages.push(PlannedStage::new(self.spec(kind), parents));
        }
        stages
    }
}

/// What the stage is to do that makes a backbone's weights; the same for every task that names the same source.
fn source_spec(arch: BackboneName, settings: &SourceSettings, data: &DataInput) -> StageSpec {
    StageSpec {
        arch,
        backbone: None,
        data: data.archive,
        reading: settings.data.reading(),
        classes: data.classes.clone(),
        seed: settings.seed,
        precision: Precision::default(),
        sync_bn: settings.sync_bn,
        wire: Precision::default(),
        rerun: 0,
        work: StageWork::Source {
            training: settings.training.clone(),
        },
    }
}

impl PlannedStage {
    fn new(spec: StageSpec, parents: Vec<StageKey>) -> Self {
        Self {
            key: spec.key(&parents),
            spec,
            parents,
        }
    }
}

/// What a key is the digest of.
#[derive(Serialize)]
struct Identity<'a> {
    method: u32,
    spec: &'a StageSpec,
    parents: &'a [StageKey],
}

impl StageSpec {
    /// The stage's key, given its parents' keys in order.
    pub fn key(&self, parents: &[StageKey]) -> StageKey {
        let identity = Identity {
            method: METHOD_VERSION,
            spec: self,
            parents,
        };
        let bytes = serde_json::to_vec(&identity).expect("a specification has text keys and finite numbers");
        StageKey(Digest::of(&bytes))
    }
}
