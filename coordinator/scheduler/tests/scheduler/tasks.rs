//! Tasks to submit and results to report.

use nettailor_domain::architecture::{Architecture, Counts};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::Digest;
use nettailor_domain::session::Order;
use nettailor_domain::stage::{Artifact, StageKind, StageOutcome, StageResult, StageWork, plan};
use nettailor_domain::task::{
    AugmentSettings, CandidateSettings, DataSettings, ResourceSettings, StudentSettings, TaskInputs,
    TaskSpec, TrainingSettings,
};
use nettailor_domain::trainer::{Failure, FailureClass};
use nettailor_domain::units::{Accuracy, Cost};
use nettailor_scheduler::event::Submission;

pub(crate) const ARCH: BackboneName = BackboneName::Resnet18;
pub(crate) const BACKBONE_BYTES: u64 = 1000;
pub(crate) const DATA_BYTES: u64 = 100;
pub(crate) const WEIGHTS_BYTES: u64 = 10;

/// A task on the data set named after it, with candidates k = 2 and 4.
pub(crate) fn task(job: &str, name: &str) -> Submission {
    let training = TrainingSettings {
        epochs: 1,
        batch_size: 32,
        learning_rate: 0.1,
        milestones: vec![],
        momentum: 0.9,
        weight_decay: 0.0,
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
        tolerance_points: 0.5,
        resources: ResourceSettings {
            max_attempts: 3,
            stage_minutes: 60,
        },
        seed: 0,
    };
    let classes = vec!["0".into(), "1".into()];
    let inputs = TaskInputs {
        backbone: Digest::of(b"backbone"),
        data: Digest::of(b"data"),
        classes,
    };
    let job = job.parse().expect("an id");
    Submission {
        job,
        arch: ARCH,
        task,
        inputs,
        backbone_bytes: BACKBONE_BYTES,
        data_bytes: DATA_BYTES,
    }
}

/// Number of stages that a submission plans.
pub(crate) fn planned(submission: &Submission) -> u32 {
    plan(submission.arch, &submission.task, &submission.inputs).len() as u32
}

/// What a trainer finds that does as it is told; candidates lose no accuracy and cost less the more they remove.
pub(crate) fn result(order: &Order) -> StageResult {
    let right = |correct| Accuracy { correct, total: 1000 };
    let architecture = || Architecture::new(&order.spec.arch.describe(), 3);
    let outcome = match &order.spec.work {
        StageWork::Teacher { .. } => StageOutcome::Teacher { held_out: right(980) },
        StageWork::Student { .. } => StageOutcome::Student {
            architecture: architecture(),
            held_out: right(970),
            expected_complexity: 0.5,
        },
        StageWork::Candidate { k, .. } => {
            let left = 100 - *k as u64;
            let backbone = Cost {
                flops: 100,
                params: 100,
            };
            let counts = Counts {
                task_params: 1,
                active_params: left,
                active_flops: left,
                backbone,
            };
            StageOutcome::Candidate {
                k: *k,
                architecture: architecture(),
                counts,
                held_out: right(979),
            }
        }
        StageWork::Select { .. } => StageOutcome::Select {
            selection: order.selection.expect("a select stage comes with its selection"),
            teacher_test: right(975),
            test: right(974),
        },
    };
    let digest = Digest::of(order.attempt.stage.to_string().as_bytes());
    let weights = (order.spec.kind() != StageKind::Select).then_some(Artifact {
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

/// A candidate that leaves no network.
pub(crate) fn infeasible(k: usize) -> StageResult {
    let outcome = StageOutcome::Infeasible {
        k,
        reason: "node 8 is cut off".into(),
    };
    StageResult {
        outcome,
        weights: None,
        samples: [0; 3],
        unreadable: 0,
        seconds: 0.5,
    }
}

/// A failure of this class.
pub(crate) fn failure(class: FailureClass) -> Failure {
    Failure {
        class,
        message: "it broke".into(),
    }
}
