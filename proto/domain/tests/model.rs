//! What names a model.

use nettailor_domain::architecture::{Architecture, Selection};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{Digest, StageKey};
use nettailor_domain::model::{Lineage, ModelAccuracy, ModelLatency, ModelRecord};
use nettailor_domain::stage::{Artifact, FrontierPoint, Latency};
use nettailor_domain::units::Accuracy;

fn model() -> ModelRecord {
    let architecture = Architecture::new(&BackboneName::Lite0.describe(), 3);
    let counts = architecture.counts(2, 64);
    let accuracy = |correct| Accuracy { correct, total: 100 };
    let artifact = |name: &[u8]| Artifact {
        digest: Digest::of(name),
        bytes: 12,
    };
    let latency = Latency {
        batch_1_ms: 3.5,
        batch_32_ms: 60.0,
    };
    ModelRecord {
        task: "digits".parse().expect("a name"),
        version: 1,
        architecture,
        counts,
        image_size: 64,
        classes: vec!["0".into(), "1".into()],
        selection: Selection {
            k: 6,
            threshold: 0.97,
            qualified: true,
        },
        accuracy: ModelAccuracy {
            held_out: accuracy(97),
            test: accuracy(96),
            teacher_held_out: accuracy(98),
            teacher_test: accuracy(97),
        },
        frontier: vec![FrontierPoint {
            k: 6,
            counts,
            held_out: accuracy(97),
            epochs: 3.0,
        }],
        latency: ModelLatency {
            network: latency,
            teacher: latency,
        },
        weights: artifact(b"weights"),
        teacher: artifact(b"teacher"),
        lineage: Lineage {
            job: "job-1".parse().expect("an id"),
            backbone: Digest::of(b"backbone"),
            data: Digest::of(b"data"),
            stages: vec![StageKey(Digest::of(b"stage"))],
            training_seconds: 77,
        },
        published_ms: 99,
    }
}

#[test]
fn a_digest_is_what_two_equal_runs_have_in_common() {
    let mut again = model();
    again.version = 2;
    again.lineage.job = "job-2".parse().expect("an id");
    again.lineage.training_seconds = 78;
    again.published_ms = 100;
    again.latency.network.batch_1_ms = 4.0;
    again.latency.teacher.batch_32_ms = 4.0;
    assert_eq!(again.digest(), model().digest());
}

#[test]
fn a_digest_knows_everything_that_was_learned() {
    let changes: [fn(&mut ModelRecord); 14] = [
        |model| model.task = "letters".parse().expect("a name"),
        |model| model.architecture.layers[3].blocks[0].score += 1e-6,
        |model| model.counts.active_flops += 1,
        |model| model.image_size = 65,
        |model| model.classes.reverse(),
        |model| model.selection.threshold += 1e-9,
        |model| model.accuracy.test.correct -= 1,
        |model| model.frontier[0].epochs += 1.0,
        |model| model.frontier[0].held_out.correct -= 1,
        |model| model.weights.digest = Digest::of(b"other"),
        |model| model.teacher.digest = Digest::of(b"other"),
        |model| model.lineage.backbone = Digest::of(b"other"),
        |model| model.lineage.data = Digest::of(b"other"),
        |model| model.lineage.stages.clear(),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut other = model();
        change(&mut other);
        assert_ne!(other.digest(), model().digest(), "change {index}");
    }
}
