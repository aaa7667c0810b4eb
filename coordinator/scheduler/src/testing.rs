//! Tasks to submit, results to report and failures, for tests and for the simulation.
//!
//! Only with the feature `testing`: values and nothing else, so the scheduler is the same with it and without.

use nettailor_domain::architecture::{Architecture, Counts, Selection};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::Digest;
use nettailor_domain::session::Order;
use nettailor_domain::stage::{
    Artifact, FrontierPoint, Infeasible, Latency, StageOutcome, StageResult, StageWork, Tailored, plan,
};
use nettailor_domain::task::{
    AugmentSettings, BackboneInput, CandidateSettings, DataInput, DataSettings, ResourceSettings, Schedule,
    Search, SourceSettings, StudentSettings, TaskInputs, TaskSpec, TrainingSettings, Workers,
};
use nettailor_domain::trainer::{Failure, FailureClass};
use nettailor_domain::units::{Accuracy, Cost};

use crate::event::Submission;
use crate::record::{RankRecord, StageState};

/// The backbone of every task.
pub const ARCH: BackboneName = BackboneName::Resnet18;
/// Size of that backbone's weights.
pub const BACKBONE_BYTES: u64 = 1000;
/// Size of a task's data set.
pub const DATA_BYTES: u64 = 100;
/// Size of the data set that a backbone is pre-trained on.
pub const SOURCE_BYTES: u64 = 500;
/// Size of the weights that a stage leaves.
pub const WEIGHTS_BYTES: u64 = 10;

/// A task on the data set named after it, with candidates k = 2 and 4.
pub fn task(job: &str, name: &str) -> Submission {
    let training = TrainingSettings {
        epochs: 1,
        batch_size: 32,
        learning_rate: 0.1,
        schedule: Schedule::Step,
        milestones: vec![],
        momentum: 0.9,
        weight_decay: 0.0,
        label_smoothing: 0.0,
        ema: 0.0,
    };
    let data = DataSettings {
        path: "digits".into(),
        format: Default::default(),
        image_size: 64,
        held_out: 0.2,
        test: 0.2,
        on_unreadable: Default::default(),
        augment: AugmentSettings::default(),
        normalise: None,
    };
    let task = TaskSpec {
        name: name.parse().expect("a name"),
        data,
        max_skip: 3,
        teacher: training,
        student: StudentSettings::default(),
        candidates: CandidateSettings {
            k: Some(vec![2, 4]),
            ..CandidateSettings::default()
        },
        precision: Default::default(),
        workers: Workers::ONE,
        sync_bn: false,
        wire: Default::default(),
        tolerance_points: 0.5,
        resources: ResourceSettings {
            max_attempts: 3,
            stage_minutes: 60,
            checkpoint_seconds: 30,
            ..ResourceSettings::default()
        },
        seed: 0,
    };
    let inputs = TaskInputs {
        backbone: BackboneInput::Weights(Digest::of(b"backbone")),
        data: images("data"),
    };
    let job = job.parse().expect("an id");
    Submission {
        job,
        arch: ARCH,
        task,
        inputs,
        backbone_bytes: BACKBONE_BYTES,
        data_bytes: DATA_BYTES,
        user: Default::default(),
        priority: None,
        deadline: None,
        reruns: vec![],
        retry_of: None,
    }
}

/// A data set of two classes.
fn images(name: &str) -> DataInput {
    DataInput {
        archive: Digest::of(name.as_bytes()),
        classes: vec!["0".into(), "1".into()],
    }
}

/// The same task with one search instead of two candidates.
pub fn searching(submission: Submission) -> Submission {
    let mut submission = submission;
    submission.task.candidates.search = Search::Halving;
    submission
}

/// The same task with so many workers, as in a tasks file.
pub fn wide(submission: Submission, workers: &str) -> Submission {
    let mut submission = submission;
    submission.task.workers = workers.parse().expect("workers");
    submission
}

/// The same task over a backbone that is pre-trained on a source data set; `seed` tells sources apart.
pub fn sourced(submission: Submission, seed: u64) -> Submission {
    let settings = SourceSettings {
        data: submission.task.data.clone(),
        training: submission.task.teacher.clone(),
        sync_bn: false,
        seed,
    };
    let inputs = TaskInputs {
        backbone: BackboneInput::Source {
            settings,
            data: images("source"),
        },
        data: images("data"),
    };
    Submission {
        inputs,
        backbone_bytes: SOURCE_BYTES,
        ..submission
    }
}

/// Number of stages that a submission plans.
pub fn planned(submission: &Submission) -> u32 {
    plan(submission.arch, &submission.task, &submission.inputs).len() as u32
}

/// What a trainer finds that does as it is told; candidates lose no accuracy and cost less the more they remove.
pub fn result(order: &Order) -> StageResult {
    let outcome = match &order.spec.work {
        StageWork::Teacher { .. } => StageOutcome::Teacher { held_out: right(980) },
        StageWork::Student { .. } => StageOutcome::Student {
            architecture: Architecture::new(&order.spec.arch.describe(), 3),
            held_out: right(970),
            expected_complexity: 0.5,
        },
        StageWork::Source { .. } => StageOutcome::Source { held_out: right(900) },
        StageWork::Candidate { k, .. } => StageOutcome::Candidate(tailored(order.spec.arch, *k)),
        StageWork::Search { ladder, .. } => search(order.spec.arch, ladder),
        StageWork::Select { .. } => StageOutcome::Select {
            selection: order.selection.expect("a select stage comes with its selection"),
            teacher_test: right(975),
            test: right(974),
            teacher_latency: latency(4.0),
            latency: latency(2.0),
        },
    };
    let digest = Digest::of(order.seat.attempt.stage.to_string().as_bytes());
    let weights = outcome.leaves_weights().then_some(Artifact {
        digest,
        bytes: WEIGHTS_BYTES,
    });
    StageResult {
        outcome,
        weights,
        samples: [80, 20, 10],
        unreadable: 0,
        seconds: 2.0,
    }
}

/// A candidate that loses no accuracy and costs less the more it removes.
pub fn tailored(arch: BackboneName, k: usize) -> Tailored {
    let left = 100 - k as u64;
    let counts = Counts {
        task_params: 1,
        active_params: left,
        active_flops: left,
        backbone: Cost {
            flops: 100,
            params: 100,
        },
    };
    Tailored {
        point: FrontierPoint {
            k,
            counts,
            held_out: right(979),
            epochs: 1.0,
        },
        architecture: Architecture::new(&arch.describe(), 3),
    }
}

/// What a search over `ladder` finds: the leanest candidate is good enough.
pub fn search(arch: BackboneName, ladder: &[usize]) -> StageOutcome {
    let found: Vec<Tailored> = ladder.iter().map(|k| tailored(arch, *k)).collect();
    let chosen = found.last().expect("a ladder has a rung").clone();
    StageOutcome::Search {
        frontier: found.iter().map(|tailored| tailored.point).collect(),
        infeasible: vec![],
        selection: Selection {
            k: chosen.point.k,
            threshold: 0.975,
            qualified: true,
        },
        tailored: chosen,
    }
}

fn right(correct: u64) -> Accuracy {
    Accuracy { correct, total: 1000 }
}

fn latency(batch_1_ms: f64) -> Latency {
    Latency {
        batch_1_ms,
        batch_32_ms: 20.0 * batch_1_ms,
    }
}

/// A candidate that leaves no network.
pub fn infeasible(k: usize) -> StageResult {
    let outcome = StageOutcome::Infeasible(Infeasible {
        k,
        reason: "node 8 is cut off".into(),
    });
    StageResult {
        outcome,
        weights: None,
        samples: [0; 3],
        unreadable: 0,
        seconds: 0.5,
    }
}

/// A failure of this class.
pub fn failure(class: FailureClass) -> Failure {
    Failure {
        class,
        message: "it broke".into(),
    }
}

/// Where a stage stands whose only rank runs.
pub fn running() -> StageState {
    let worker = "w".parse().expect("a name");
    StageState::Running {
        ranks: vec![RankRecord { worker, done: false }],
        result: None,
        started_ms: 1,
        payer: Default::default(),
    }
}
