//! Things to show in tests.

use nettailor_domain::architecture::{Architecture, Selection};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{Digest, StageKey};
use nettailor_domain::model::{Lineage, ModelAccuracy, ModelLatency, ModelRecord};
use nettailor_domain::stage::{Artifact, FrontierPoint, Latency};
use nettailor_domain::units::Accuracy;

use super::{JobState, JobView, StageState, StageView};
use crate::quantity::moment;

/// A finished job of the task `digits`, without its stages.
pub(crate) fn job() -> JobView {
    JobView {
        id: "01jdc0example".into(),
        task: "digits".into(),
        state: JobState::Succeeded,
        reason: String::new(),
        submitted: moment(1_763_878_482_000),
        finished: moment(1_763_878_845_500),
        seconds: Some(363.5),
        model_version: Some(1),
        stages_run: 7,
        user: "alice".into(),
        priority: 5,
        failure_class: None,
        retry_of: None,
        stages: Vec::new(),
    }
}

/// A stage of the first attempt on no worker.
pub(crate) fn stage(kind: &str, state: StageState) -> StageView {
    StageView {
        key: Digest::of(kind.as_bytes()).to_string(),
        kind: kind.into(),
        state,
        reason: String::new(),
        attempt: 0,
        workers: Vec::new(),
        world_size: 0,
        checkpoint_epoch: None,
        progress: None,
        summary: String::new(),
        seconds: None,
        reused: false,
    }
}

/// A lite0 at 64 pixels for ten classes without its last six removable blocks.
pub(crate) fn model(task: &str) -> ModelRecord {
    let mut architecture = Architecture::new(&BackboneName::Lite0.describe(), 3);
    // The less a later main block is listened to, the sooner it goes.
    for (index, layer) in architecture.layers.iter_mut().enumerate() {
        layer.blocks[0].score = 2.0 - index as f32 / 16.0;
        layer.blocks[1].score = -0.5;
    }
    let architecture = architecture.prune(6, 0.05).expect("six of sixteen can go");
    let artifact = |bytes| Artifact {
        digest: Digest::of(task.as_bytes()),
        bytes,
    };
    let of = |correct| Accuracy { correct, total: 400 };
    let latency = |batch_1_ms| Latency {
        batch_1_ms,
        batch_32_ms: 20.0 * batch_1_ms,
    };
    // Less is left the more is removed; the first was stopped early.
    let point = |(k, correct, epochs): (usize, u64, f64)| {
        let mut counts = architecture.counts(10, 64);
        counts.active_flops = counts.active_flops * (22 - k as u64) / 16;
        FrontierPoint {
            k,
            counts,
            held_out: of(correct),
            epochs,
        }
    };
    let frontier = [(2, 384, 4.25), (4, 392, 20.0), (6, 391, 20.0), (8, 387, 20.0)].map(point);
    ModelRecord {
        task: task.parse().expect("a name"),
        version: 1,
        counts: architecture.counts(10, 64),
        architecture,
        image_size: 64,
        classes: (0..10).map(|digit| digit.to_string()).collect(),
        selection: Selection {
            k: 6,
            threshold: 0.9725,
            qualified: true,
        },
        accuracy: ModelAccuracy {
            held_out: of(391),
            test: of(392),
            teacher_held_out: of(391),
            teacher_test: of(393),
        },
        frontier: frontier.to_vec(),
        latency: ModelLatency {
            network: latency(2.5),
            teacher: latency(4.0),
        },
        weights: artifact(2 << 20),
        teacher: artifact(13 << 20),
        lineage: Lineage {
            job: "01jdc0example".parse().expect("an id"),
            backbone: Digest::of(b"backbone"),
            data: Digest::of(b"data"),
            stages: vec![StageKey(Digest::of(b"teacher"))],
            training_seconds: 361,
        },
        published_ms: 1_763_878_845_500,
    }
}
