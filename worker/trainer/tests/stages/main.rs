//! All stages of a tiny task, through the program, as the agent runs it.
//!
//! [`apart`]: the test split stays out of everything but `select`. [`statistics`]: what is estimated before a candidate
//! trains. [`gangs`]: stages by several ranks, and stages that are gone on with, in this process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is the test's report"
)]

mod apart;
mod gangs;
mod graph;
mod statistics;
#[path = "../common/threads.rs"]
mod threads;

use std::path::{Path, PathBuf};
use std::process::Command;

use nettailor_domain::architecture::{Architecture, Selection};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::{
    FrontierPoint, Infeasible, StageOutcome, StageResult, StageSpec, StageWork, Tailored,
};
use nettailor_domain::task::{
    BnMode, CandidateSettings, DataSettings, Precision, Schedule, Search, StudentSettings, TrainingSettings,
};
use nettailor_domain::trainer::{
    Assignment, BackboneFile, Failure, FailureClass, Finished, ParentInput, TrainerEvent, WEIGHTS_FILE,
};
use nettailor_trainer::model::Init;
use nettailor_trainer::{runtime, weights};
use safetensors::SafeTensors;
use tch::{Device, Tensor};

const SIDE: u32 = 32;
const CLASSES: [&str; 3] = ["blue", "green", "red"];

/// A folder with a backbone, a data set, and the attempts that are made.
struct Bench {
    root: tempfile::TempDir,
    backbone: PathBuf,
    archive: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let backbone = root.path().join("backbone.safetensors");
        write_backbone(BackboneName::Resnet18, &backbone);
        let archive = root.path().join("data.tar");
        write_archive(&archive, 16);
        Self {
            root,
            backbone,
            archive,
        }
    }

    fn assignment(&self, attempt: &str, work: StageWork, parents: Vec<ParentInput>) -> Assignment {
        let output_dir = self.root.path().join(attempt);
        let cache_dir = self.root.path().join("cache");
        std::fs::create_dir_all(&output_dir).unwrap();
        std::fs::create_dir_all(&cache_dir).unwrap();
        let reading: DataSettings =
            serde_json::from_value(serde_json::json!({ "path": "", "image_size": SIDE, "held_out": 0.25 }))
                .unwrap();
        let spec = StageSpec {
            arch: BackboneName::Resnet18,
            backbone: Some(weights::digest(&self.backbone).unwrap()),
            data: weights::digest(&self.archive).unwrap(),
            reading,
            classes: CLASSES.map(str::to_owned).to_vec(),
            seed: 5,
            precision: Precision::default(),
            sync_bn: false,
            wire: Precision::default(),
            rerun: 0,
            work,
        };
        let backbone = Some(BackboneFile {
            path: self.backbone.clone(),
            digest: weights::digest(&self.backbone).unwrap(),
        });
        let data = self.archive.clone();
        Assignment {
            spec,
            backbone,
            data,
            parents,
            selection: None,
            cache_dir,
            output_dir,
            threads: 1,
            rank: 0,
            world_size: 1,
            gang: String::new(),
            checkpoint: None,
            checkpoint_seconds: u32::MAX,
            sample_ledger: None,
        }
    }

    /// Runs the program; its events and its exit code.
    fn run(&self, assignment: &Assignment) -> (Vec<TrainerEvent>, i32) {
        let file = assignment.output_dir.join("assignment.json");
        std::fs::write(&file, serde_json::to_vec(assignment).unwrap()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nettailor-trainer"));
        let output = command
            .arg("run")
            .arg(&file)
            .env("OMP_NUM_THREADS", "1")
            .output()
            .unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let events = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        (events, output.status.code().expect("no signal"))
    }

    fn finish(&self, assignment: &Assignment) -> (Finished, ParentInput) {
        let (mut events, code) = self.run(assignment);
        let last = events.pop();
        let Some(TrainerEvent::Finished(finished)) = last else {
            panic!("last event: {last:?}")
        };
        assert_eq!(code, 0);
        assert!(
            events
                .iter()
                .all(|event| matches!(event, TrainerEvent::Progress(_))),
            "{events:?}"
        );
        let result = result(&finished);
        let weights = assignment.output_dir.join(WEIGHTS_FILE);
        (finished, ParentInput { result, weights })
    }

    fn fail(&self, assignment: &Assignment) -> Failure {
        let (events, code) = self.run(assignment);
        assert_eq!(code, 1);
        let Some(TrainerEvent::Failed(failure)) = events.last() else {
            panic!("last event: {:?}", events.last())
        };
        assert!(
            !assignment.output_dir.join(WEIGHTS_FILE).exists(),
            "a failed stage leaves no weights"
        );
        failure.clone()
    }
}

/// As the coordinator keeps it.
fn result(finished: &Finished) -> StageResult {
    StageResult {
        outcome: finished.outcome.clone(),
        weights: None,
        samples: finished.samples,
        unreadable: finished.unreadable,
        seconds: 0.0,
    }
}

/// The network's tensors, with random convolutions.
fn write_backbone(name: BackboneName, path: &Path) {
    let tensors: Vec<(String, Tensor)> = (name.describe().tensors().into_iter())
        .map(|spec| {
            let shape: Vec<i64> = spec.shape.iter().map(|n| *n as i64).collect();
            let init = match spec.name.rsplit('.').next().unwrap() {
                "weight" if shape.len() == 4 => {
                    Init::Normal((2.0 / spec.shape[1..].iter().product::<usize>() as f32).sqrt())
                }
                "weight" | "running_var" => Init::Constant(1.0),
                _ => Init::Constant(0.0),
            };
            let values = init.values(1, &spec.name, spec.shape.iter().product());
            (spec.name, Tensor::from_slice(&values).view(&shape[..]))
        })
        .collect();
    weights::write(path, tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))).unwrap();
}

/// So many training and 4 test images per class, of the class's colour and some noise.
fn write_archive(path: &Path, training: usize) {
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (split, count) in [("train", training), ("test", 4)] {
        for (label, class) in CLASSES.iter().enumerate() {
            for number in 0..count {
                let name = format!("{split}/{class}/{number:02}.ppm");
                let noise = Init::Normal(20.0).values(label as u64, &name, 8 * 8 * 3);
                let pixel = |(i, z): (usize, &f32)| (if i % 3 == 2 - label { 170.0 } else { 80.0 } + z) as u8;
                let mut image = b"P6 8 8 255\n".to_vec();
                image.extend(noise.iter().enumerate().map(pixel));
                let mut header = tar::Header::new_gnu();
                header.set_size(image.len() as u64);
                header.set_mode(0o644);
                header.set_cksum();
                archive.append_data(&mut header, &name, image.as_slice()).unwrap();
            }
        }
    }
    archive.finish().unwrap();
}

fn training(epochs: u32, learning_rate: f64) -> TrainingSettings {
    let milestones = vec![0.6];
    TrainingSettings {
        epochs,
        batch_size: 8,
        learning_rate,
        schedule: Schedule::Step,
        milestones,
        momentum: 0.9,
        weight_decay: 5e-4,
        label_smoothing: 0.0,
        ema: 0.0,
    }
}

/// The backbone of these tests is random, and its statistics say nothing.
fn student() -> StudentSettings {
    StudentSettings {
        training: training(2, 0.02),
        gamma2: 0.5,
        bn_mode: BnMode::Task,
        ..StudentSettings::default()
    }
}

fn candidate(k: usize, proxy_threshold: f64) -> StageWork {
    let settings = CandidateSettings {
        k: None,
        search: Search::Exhaustive,
        proxy_threshold,
        bn_batches: 4,
        training: training(1, 0.02),
    };
    StageWork::Candidate {
        k,
        settings,
        student: student(),
    }
}

#[test]
fn a_task_from_teacher_to_select() {
    let bench = Bench::new();
    let shared = std::fs::read(&bench.backbone).unwrap();

    let work = StageWork::Teacher {
        training: training(15, 0.01),
    };
    let (finished, teacher) = bench.finish(&bench.assignment("teacher", work, vec![]));
    let StageOutcome::Teacher { held_out } = finished.outcome else {
        panic!("{:?}", finished.outcome)
    };
    assert_eq!(finished.samples, [36, 12, 12]);
    assert_eq!(held_out.total, 12);
    assert!(
        held_out.fraction() > 0.7,
        "three colours can be learnt: {held_out}"
    );

    let student_work = StageWork::Student {
        max_skip: 2,
        student: student(),
    };
    let assignment = bench.assignment("student", student_work.clone(), vec![teacher.clone()]);
    let (finished, trained) = bench.finish(&assignment);
    let StageOutcome::Student {
        architecture,
        expected_complexity,
        held_out,
    } = &finished.outcome
    else {
        panic!("{:?}", finished.outcome)
    };
    assert!(held_out.fraction() > 0.5, "chance is a third: {held_out}");
    let untouched = Architecture::new(&BackboneName::Resnet18.describe(), 2);
    assert_ne!(architecture, &untouched, "the scores were trained");
    assert!((0.0..1.0).contains(expected_complexity));

    // The same assignment again, elsewhere: the same bytes.
    let again = bench.assignment("student-again", student_work, vec![teacher.clone()]);
    let (repeated, twin) = bench.finish(&again);
    assert_eq!(repeated, finished);
    assert_eq!(
        weights::digest(&twin.weights).unwrap(),
        weights::digest(&trained.weights).unwrap()
    );

    let parents = vec![teacher.clone(), trained.clone()];
    let (finished, pruned) =
        bench.finish(&bench.assignment("candidate", candidate(3, 0.001), parents.clone()));
    let StageOutcome::Candidate(Tailored { point, architecture }) = &finished.outcome else {
        panic!("{:?}", finished.outcome)
    };
    let FrontierPoint {
        k: 3,
        counts,
        epochs: 1.0,
        ..
    } = point
    else {
        panic!("{point:?}")
    };
    assert_eq!(architecture.kept_mains().len(), 5);
    let bytes = std::fs::read(&pruned.weights).unwrap();
    let stored: usize = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .iter()
        .map(|(_, t)| t.shape().iter().product::<usize>())
        .sum();
    assert_eq!(
        stored as u64, counts.task_params,
        "what is stored is what is counted"
    );

    let (finished, _) = bench.finish(&bench.assignment("infeasible", candidate(8, 1.0), parents));
    let StageOutcome::Infeasible(Infeasible { k: 8, reason }) = &finished.outcome else {
        panic!("{:?}", finished.outcome)
    };
    assert!(reason.contains("no path"), "{reason}");

    let mut select = bench.assignment(
        "select",
        StageWork::Select { tolerance: 0.005 },
        vec![teacher.clone(), pruned.clone()],
    );
    select.selection = Some(Selection {
        k: 3,
        threshold: 0.5,
        qualified: true,
    });
    let (finished, _) = bench.finish(&select);
    let StageOutcome::Select {
        teacher_test,
        test,
        latency,
        ..
    } = finished.outcome
    else {
        panic!("{:?}", finished.outcome)
    };
    assert_eq!((teacher_test.total, test.total), (12, 12));
    assert!(latency.batch_1_ms > 0.0 && latency.batch_32_ms > 0.0);
    assert_eq!(
        std::fs::read(&bench.backbone).unwrap(),
        shared,
        "the backbone is what it was"
    );
}

#[test]
fn a_teacher_and_a_student_learn_in_bf16() {
    let bench = Bench::new();
    // Where the processor has no instructions for it, libtorch takes a hundred times longer: there the stages are run,
    // and nobody waits until something is learnt.
    let fast = runtime::multiplies_bf16(Device::Cpu);
    let work = StageWork::Teacher {
        training: training(if fast { 15 } else { 1 }, 0.01),
    };
    let mut assignment = bench.assignment("teacher", work, vec![]);
    assignment.spec.precision = Precision::Bf16;
    let (finished, teacher) = bench.finish(&assignment);
    let StageOutcome::Teacher { held_out } = finished.outcome else {
        panic!("{:?}", finished.outcome)
    };
    assert!(
        !fast || held_out.fraction() > 0.7,
        "three colours can be learnt: {held_out}"
    );
    let stored = std::fs::read(&teacher.weights).unwrap();
    for (name, view) in SafeTensors::deserialize(&stored).unwrap().tensors() {
        assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
    }

    let work = StageWork::Student {
        max_skip: 2,
        student: StudentSettings {
            training: training(if fast { 2 } else { 1 }, 0.02),
            ..student()
        },
    };
    let mut assignment = bench.assignment("student", work, vec![teacher]);
    assignment.spec.precision = Precision::Bf16;
    let (finished, _) = bench.finish(&assignment);
    let StageOutcome::Student { held_out, .. } = finished.outcome else {
        panic!("{:?}", finished.outcome)
    };
    assert!(
        !fast || held_out.fraction() > 0.5,
        "chance is a third: {held_out}"
    );
}

#[test]
fn what_is_wrong_is_said_and_classed() {
    let bench = Bench::new();
    let work = StageWork::Teacher {
        training: training(1, 0.02),
    };

    // Another network's weights: the first tensors that do not fit, with both shapes.
    let mut other = bench.assignment("other", work.clone(), vec![]);
    other.spec.arch = BackboneName::Resnet50;
    let failure = bench.fail(&other);
    assert_eq!(failure.class, FailureClass::Input);
    for part in [
        "layer1.0.conv1.weight: expected shape [64, 64, 1, 1], the file has [64, 64, 3, 3]",
        "more",
    ] {
        assert!(failure.message.contains(part), "{failure}");
    }

    // Not the bytes that were asked for: this node's copy is bad.
    let mut changed = bench.assignment("changed", work.clone(), vec![]);
    changed.backbone.as_mut().unwrap().digest = Digest::of(b"something else");
    let failure = bench.fail(&changed);
    assert_eq!(failure.class, FailureClass::Resources);
    assert!(failure.message.contains("digest"), "{failure}");

    // No safetensors at all.
    let mut broken = bench.assignment("broken", work, vec![]);
    let path = bench.root.path().join("broken.safetensors");
    std::fs::write(&path, &std::fs::read(&bench.backbone).unwrap()[..1000]).unwrap();
    let digest = weights::digest(&path).unwrap();
    broken.backbone = Some(BackboneFile { path, digest });
    let failure = bench.fail(&broken);
    assert_eq!(failure.class, FailureClass::Input);
    assert!(
        failure.message.contains("not a complete safetensors file"),
        "{failure}"
    );

    // A rate at which nothing converges.
    let wild = StageWork::Teacher {
        training: training(3, 1e30),
    };
    let failure = bench.fail(&bench.assignment("wild", wild, vec![]));
    assert_eq!(failure.class, FailureClass::Input);
    assert!(failure.message.contains("lower the learning rate"), "{failure}");

    // A student without its teacher.
    let student = StageWork::Student {
        max_skip: 1,
        student: StudentSettings {
            bn_mode: BnMode::Frozen,
            ..student()
        },
    };
    let failure = bench.fail(&bench.assignment("orphan", student, vec![]));
    assert_eq!(failure.class, FailureClass::Internal);
    assert!(failure.message.contains("teacher"), "{failure}");
}
