//! Messages and domain values: there and back, and what is refused.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::time::Duration;

use nettailor_domain::architecture::{Architecture, Selection};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{Attempt, Digest, Seat, StageKey};
use nettailor_domain::model::{Lineage, ModelAccuracy, ModelLatency, ModelQuery, ModelRecord, SortKey};
use nettailor_domain::session::{Offer, Order};
use nettailor_domain::stage::{
    Artifact, Checkpoint, FrontierPoint, Latency, StageOutcome, StageResult, plan,
};
use nettailor_domain::task::{BackboneInput, DataInput, SourceSettings, TaskInputs};
use nettailor_domain::taskfile::TasksFile;
use nettailor_domain::trainer::{Failure, FailureClass, Progress};
use nettailor_domain::units::Accuracy;
use nettailor_proto::convert::jobs::task_inputs;
use nettailor_proto::convert::session::{FromAgent, FromCoordinator, Hello};
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1;

fn seat(rank: u32) -> Seat {
    Seat {
        attempt: Attempt {
            stage: StageKey(Digest::of(b"stage")),
            number: 3,
        },
        rank,
    }
}

fn artifact(name: &str) -> Artifact {
    Artifact {
        digest: Digest::of(name.as_bytes()),
        bytes: 12,
    }
}

fn accuracy(correct: u64) -> Accuracy {
    Accuracy { correct, total: 100 }
}

fn architecture() -> Architecture {
    Architecture::new(&BackboneName::Lite0.describe(), 3)
}

fn teacher() -> StageResult {
    StageResult {
        outcome: StageOutcome::Teacher {
            held_out: accuracy(97),
        },
        weights: Some(artifact("teacher")),
        samples: [8, 2, 1],
        unreadable: 0,
        seconds: 1.25,
    }
}

#[test]
fn what_agents_say_comes_back_unchanged() {
    let hello = Hello {
        worker: "node-1".parse().unwrap(),
        offer: Offer {
            slots: 2,
            threads_per_slot: 4,
            device: "cpu".into(),
            cached: vec![Digest::of(b"cached")],
            seats: vec![seat(0), seat(2)],
            version: "0.1.0".into(),
            draining: true,
            labels: [("gpu".to_owned(), "h100".to_owned())].into_iter().collect(),
        },
    };
    let progress = Progress {
        phase: "training".into(),
        held_out: Some(0.5),
        loss: 1.5,
        ..Default::default()
    };
    let failure = |class| Failure {
        class,
        message: "no space".into(),
    };
    let mut said = vec![
        FromAgent::Hello(hello),
        FromAgent::Ready,
        FromAgent::Heartbeat,
        FromAgent::Progress {
            seat: seat(1),
            progress,
        },
        FromAgent::Log {
            seat: seat(1),
            time_ms: 5,
            lines: vec!["one".into(), String::new()],
        },
        FromAgent::Meeting {
            seat: seat(0),
            address: "[::1]:4711".parse().unwrap(),
        },
        FromAgent::Checkpointed {
            seat: seat(0),
            checkpoint: Checkpoint {
                artifact: artifact("checkpoint"),
                epoch: 4,
                step: 1 << 40,
            },
        },
        FromAgent::Finished {
            seat: seat(0),
            result: Some(Box::new(teacher())),
        },
        FromAgent::Finished {
            seat: seat(1),
            result: None,
        },
        FromAgent::Draining {
            reason: "asked to".into(),
        },
    ];
    use FailureClass::{Deadline, Input, Internal, Lost, Resources};
    said.extend(
        [Input, Resources, Internal, Lost, Deadline].map(|class| FromAgent::Failed {
            seat: seat(1),
            failure: failure(class),
        }),
    );
    for said in said {
        assert_eq!(
            FromAgent::try_from(v1::AgentMessage::from(said.clone())),
            Ok(said)
        );
    }
}

fn data(name: &str) -> DataInput {
    DataInput {
        archive: Digest::of(name.as_bytes()),
        classes: vec!["x".into(), "y".into()],
    }
}

fn source() -> SourceSettings {
    serde_json::from_str(r#"{"data": {"path": "s"}, "seed": 3}"#).unwrap()
}

#[test]
fn inputs_come_back_with_the_source_of_the_tasks_file() {
    let weights = BackboneInput::Weights(Digest::of(b"b"));
    let trained = BackboneInput::Source {
        settings: source(),
        data: data("s"),
    };
    for (backbone, settings) in [(weights.clone(), None), (trained.clone(), Some(source()))] {
        let inputs = TaskInputs {
            backbone,
            data: data("d"),
        };
        assert_eq!(task_inputs(inputs.clone().into(), settings.as_ref()), Ok(inputs));
    }
    let refused = |backbone, settings: Option<SourceSettings>| {
        let inputs = TaskInputs {
            backbone,
            data: data("d"),
        };
        task_inputs(inputs.into(), settings.as_ref())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(weights, Some(source())),
        "field `weights_digest`: the tasks file trains the backbone on a source: its data were expected instead"
    );
    assert_eq!(
        refused(trained, None),
        "field `source`: the tasks file has no source: the digest of the weights was expected instead"
    );
    let none = v1::TaskInputs {
        backbone: None,
        data: Some(data("d").into()),
    };
    let words = |error: nettailor_proto::convert::Error| error.to_string();
    assert_eq!(
        task_inputs(none, None).map_err(words),
        Err("field `backbone` is missing".into())
    );
    let mut bare: v1::DataInput = data("s").into();
    bare.classes.clear();
    let bare = v1::TaskInputs {
        backbone: Some(v1::task_inputs::Backbone::Source(bare)),
        data: Some(data("d").into()),
    };
    assert_eq!(
        task_inputs(bare, Some(&source())).map_err(words),
        Err("field `source.classes`: a data set has at least one class".into())
    );
}

#[test]
fn what_the_coordinator_says_comes_back_unchanged() {
    let text = "version: 1\nbackbone: lite0\ntasks:\n  - {name: digits, data: {path: digits}}\n";
    let task = TasksFile::parse(text).unwrap().tasks.remove(0);
    let stages = |backbone| {
        let inputs = TaskInputs {
            backbone,
            data: data("d"),
        };
        plan(BackboneName::Lite0, &task, &inputs)
    };
    let settings = source();
    let with_source = stages(BackboneInput::Source {
        settings,
        data: data("s"),
    });
    let orders = stages(BackboneInput::Weights(Digest::of(b"b")))
        .into_iter()
        .chain(with_source)
        .enumerate()
        .map(|(rank, stage)| Order {
            seat: seat(rank as u32),
            world_size: 64,
            backbone: stage.spec.backbone.map(|_| artifact("backbone")),
            spec: stage.spec,
            data: artifact("data"),
            parents: vec![teacher()],
            selection: Some(Selection {
                k: 4,
                threshold: 0.97,
                qualified: true,
            }),
            checkpoint: (rank % 2 == 0).then(|| artifact("checkpoint")),
            checkpoint_seconds: 60,
            description: "digits: teacher".into(),
        });
    let mut said: Vec<_> = orders
        .map(|order| FromCoordinator::Assign(Box::new(order)))
        .collect();
    let artifacts_url = "file:///artifacts".to_owned();
    said.push(FromCoordinator::Welcome {
        artifacts_url,
        heartbeat: Duration::from_millis(2500),
    });
    said.push(FromCoordinator::Meet {
        seat: seat(1),
        address: "node-1:4711".parse().unwrap(),
    });
    said.push(FromCoordinator::Stop {
        seat: seat(1),
        reason: "cancelled".into(),
    });
    said.push(FromCoordinator::Acknowledged(seat(1)));
    for said in said {
        assert_eq!(
            FromCoordinator::try_from(v1::CoordinatorMessage::from(said.clone())),
            Ok(said)
        );
    }
}

fn model() -> ModelRecord {
    ModelRecord {
        task: "digits".parse().unwrap(),
        version: 2,
        counts: architecture().counts(10, 64),
        architecture: architecture(),
        image_size: 64,
        classes: vec!["0".into(), "1".into()],
        selection: Selection {
            k: 6,
            threshold: 0.975,
            qualified: false,
        },
        accuracy: ModelAccuracy {
            held_out: accuracy(1),
            test: accuracy(2),
            teacher_held_out: accuracy(3),
            teacher_test: accuracy(4),
        },
        frontier: [4, 6]
            .map(|k| FrontierPoint {
                k,
                counts: architecture().counts(10, 64),
                held_out: accuracy(90),
                epochs: 7.5,
            })
            .to_vec(),
        latency: ModelLatency {
            network: Latency {
                batch_1_ms: 1.5,
                batch_32_ms: 31.0,
            },
            teacher: Latency {
                batch_1_ms: 2.5,
                batch_32_ms: 64.0,
            },
        },
        weights: artifact("weights"),
        teacher: artifact("teacher"),
        lineage: Lineage {
            job: "digits-abc234".parse().unwrap(),
            backbone: Digest::of(b"b"),
            data: Digest::of(b"d"),
            stages: vec![seat(0).attempt.stage],
            training_seconds: 77,
        },
        published_ms: 99,
    }
}

#[test]
fn models_and_queries_come_back_unchanged() {
    assert_eq!(ModelRecord::try_from(v1::Model::from(model())), Ok(model()));
    for sort in [
        SortKey::Task,
        SortKey::Accuracy,
        SortKey::Params,
        SortKey::Flops,
        SortKey::Published,
    ] {
        let query = ModelQuery {
            task: Some("dig".into()),
            min_accuracy: Some(0.9),
            max_params: Some(5),
            max_flops: None,
            all_versions: true,
            sort,
            descending: true,
            limit: Some(3),
        };
        assert_eq!(
            ModelQuery::try_from(v1::SearchRequest::from(query.clone())),
            Ok(query)
        );
    }
    assert_eq!(
        ModelQuery::try_from(v1::SearchRequest::default()),
        Ok(ModelQuery::default())
    );
}

#[test]
fn a_bad_field_is_named() {
    let words = |result: Result<ModelRecord, _>| {
        let error = Error::from(result.expect_err("must be refused"));
        assert_eq!(error.code, Code::InvalidArgument);
        error.message
    };
    let message = || v1::Model::from(model());
    assert_eq!(
        words(
            v1::Model {
                counts: None,
                ..message()
            }
            .try_into()
        ),
        "field `counts` is missing"
    );
    let mut bad = message();
    bad.lineage.as_mut().unwrap().job = "A B".into();
    assert!(words(bad.try_into()).starts_with("field `lineage.job`: job id `A B` is not valid"));
    let mut bad = message();
    bad.weights.as_mut().unwrap().digest = String::new();
    assert_eq!(words(bad.try_into()), "field `weights.digest` is missing");
    let mut bad = message();
    bad.frontier[1].held_out = None;
    assert_eq!(words(bad.try_into()), "field `frontier.held_out` is missing");
    let bad = v1::Model {
        architecture_json: b"{}".to_vec(),
        ..message()
    };
    assert!(words(bad.try_into()).starts_with("field `architecture_json`: missing field"));
    let bad = v1::Model {
        test: Some(v1::Accuracy { correct: 3, total: 2 }),
        ..message()
    };
    assert_eq!(words(bad.try_into()), "field `test.correct`: 3 of 2");

    let empty = FromAgent::try_from(v1::AgentMessage { message: None });
    assert_eq!(empty.unwrap_err().to_string(), "field `message` is missing");
    let bad = v1::SearchRequest {
        sort: 77,
        ..Default::default()
    };
    assert!(
        ModelQuery::try_from(bad)
            .unwrap_err()
            .to_string()
            .starts_with("field `sort`: ")
    );
}

#[test]
fn what_a_rank_cannot_say_is_refused() {
    use v1::agent_message::Message;
    let refused = |message| {
        let message = v1::AgentMessage {
            message: Some(message),
        };
        FromAgent::try_from(message)
            .expect_err("must be refused")
            .to_string()
    };
    let meeting = |seat: Option<v1::Seat>, address: &str| {
        refused(Message::Meeting(v1::Meeting {
            seat,
            address: address.into(),
        }))
    };
    let rank_0 = || Some(v1::Seat::from(seat(0)));
    assert_eq!(meeting(None, "n:1"), "field `seat` is missing");
    assert_eq!(
        meeting(Some(seat(2).into()), "n:1"),
        "field `seat.rank`: rank 0 says this, not rank 2"
    );
    assert_eq!(meeting(rank_0(), ""), "field `address` is missing");
    assert_eq!(
        meeting(rank_0(), "node"),
        "field `address`: address `node` is not valid: expected host:port, an IPv6 host in brackets"
    );
    let unnumbered = v1::Seat {
        attempt: 0,
        ..seat(0).into()
    };
    assert_eq!(
        meeting(Some(unnumbered), "n:1"),
        "field `seat.attempt` is missing"
    );

    let left = v1::Checkpointed {
        seat: rank_0(),
        checkpoint: None,
        epoch: 1,
        step: 2,
    };
    assert_eq!(
        refused(Message::Checkpointed(left.clone())),
        "field `checkpoint` is missing"
    );
    let left = v1::Checkpointed {
        seat: Some(seat(1).into()),
        ..left
    };
    assert_eq!(
        refused(Message::Checkpointed(left)),
        "field `seat.rank`: rank 0 says this, not rank 1"
    );

    let finished = |rank, result_json: &[u8]| {
        refused(Message::Finished(v1::SeatFinished {
            seat: Some(seat(rank).into()),
            result_json: result_json.to_vec(),
        }))
    };
    assert_eq!(finished(0, b""), "field `result_json` is missing");
    assert_eq!(
        finished(1, b"{}"),
        "field `result_json`: it comes from rank 0, not from rank 1"
    );
}

#[test]
fn an_order_is_for_one_of_its_ranks() {
    let assign = |world_size| v1::Assign {
        seat: Some(seat(2).into()),
        world_size,
        ..Default::default()
    };
    for world_size in [0, 2] {
        let error = Order::try_from(assign(world_size)).expect_err("must be refused");
        assert_eq!(
            error.to_string(),
            "field `world_size`: there is no rank 2 among so many"
        );
    }
}
