//! Tasks to submit and results to report.

use nettailor_domain::architecture::{Architecture, Counts, Selection};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::Digest;
use nettailor_domain::session::Order;
use nettailor_domain::stage::{
    Artifact, FrontierPoint, Infeasible, Latency, StageKind, StageOutcome, StageResult, StageWork, Tailored,
};
use nettailor_domain::task::{
    AugmentSettings, BackboneInput, CandidateSettings, DataInput, DataSettings, ResourceSettings, Schedule,
    Search, SourceSettings, StudentSettings, TaskInputs, TaskSpec, TrainingSettings, Workers,
};
use nettailor_domain::units::{Accuracy, Cost};
use nettailor_scheduler::event::Submission;

const ARCH: BackboneName = BackboneName::Resnet18;
/// Main blocks without which no network is left.
const TOO_MANY: usize = 8;
/// What trainers cannot read.
const BAD: &str = "bad";

/// How many tasks there are. They overlap in different ways; the last two are bad: one cannot be read, one leaves no network.
pub(crate) const VARIANTS: u32 = 20;

/// Whether no job of this variant can succeed.
pub(crate) fn is_bad(variant: u32) -> bool {
    variant % VARIANTS >= VARIANTS - 2
}

/// Whether an attempt at this cannot succeed.
pub(crate) fn is_unreadable(order: &Order) -> bool {
    order.description.starts_with(BAD)
}

/// A task: some over a backbone that is made first, some with a search, some for gangs.
pub(crate) fn variation(variant: u32, job: &str, resources: ResourceSettings) -> Submission {
    let variant = variant % VARIANTS;
    let name = match variant {
        18 => BAD,
        _ if variant.is_multiple_of(2) => "digits",
        _ => "numbers",
    };
    let mut submission = task(job, name, resources);
    let task = &mut submission.task;
    match variant {
        18 => task.teacher.epochs = 2,
        19 => task.candidates.k = Some(vec![TOO_MANY]),
        2 | 3 | 12 => task.student.gamma1 = 0.7,
        4 | 5 | 13 => task.candidates.k = Some(vec![2, 4, 6]),
        6 | 7 => task.candidates.search = Search::Halving,
        8..=11 => task.seed = variant.into(),
        _ => {}
    }
    task.workers = match variant {
        3 | 8 => "2".parse(),
        5 => "3..6".parse(),
        7 | 9 => "1..4".parse(),
        11 | 14 => "2..3".parse(),
        _ => Ok(Workers::ONE),
    }
    .expect("workers");
    match variant {
        1 | 7 | 10 => sourced(submission, variant.into()),
        _ => submission,
    }
}

/// A task on the data set named after it, with candidates k = 2 and 4.
fn task(job: &str, name: &str, resources: ResourceSettings) -> Submission {
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
        resources,
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
        backbone_bytes: 1000,
        data_bytes: 100,
        user: Default::default(),
        priority: None,
        deadline: None,
        reruns: Vec::new(),
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

/// The same task over a backbone that is pre-trained on a source data set; `seed` tells sources apart.
fn sourced(submission: Submission, seed: u64) -> Submission {
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
        backbone_bytes: 500,
        ..submission
    }
}

/// What a trainer finds that does as it is told; candidates lose no accuracy and cost less the more they remove.
pub(crate) fn result(order: &Order) -> StageResult {
    if order.spec.kind() == StageKind::Candidate(TOO_MANY) {
        return infeasible(TOO_MANY);
    }
    let outcome = match &order.spec.work {
        StageWork::Teacher { .. } => StageOutcome::Teacher { held_out: right(980) },
        StageWork::Student { .. } => StageOutcome::Student {
            architecture: Architecture::new(&order.spec.arch.describe(), 3),
            held_out: right(970),
            expected_complexity: 0.5,
        },
        StageWork::Source { .. } => StageOutcome::Source { held_out: right(900) },
        StageWork::Candidate { k, .. } => StageOutcome::Candidate(tailored(*k)),
        StageWork::Search { ladder, .. } => search(ladder),
        StageWork::Select { .. } => StageOutcome::Select {
            selection: order.selection.expect("a select stage comes with its selection"),
            teacher_test: right(975),
            test: right(974),
            teacher_latency: latency(4.0),
            latency: latency(2.0),
        },
    };
    let digest = Digest::of(order.seat.attempt.stage.to_string().as_bytes());
    let weights = outcome.leaves_weights().then_some(Artifact { digest, bytes: 10 });
    StageResult {
        outcome,
        weights,
        samples: [80, 20, 10],
        unreadable: 0,
        seconds: 2.0,
    }
}

/// A candidate that loses no accuracy and costs less the more it removes.
fn tailored(k: usize) -> Tailored {
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
        architecture: Architecture::new(&ARCH.describe(), 3),
    }
}

/// What a search over `ladder` finds: the leanest candidate is good enough.
fn search(ladder: &[usize]) -> StageOutcome {
    let found: Vec<Tailored> = ladder.iter().map(|k| tailored(*k)).collect();
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
fn infeasible(k: usize) -> StageResult {
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
