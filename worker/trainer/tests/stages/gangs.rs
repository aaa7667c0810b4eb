//! Stages as gangs of threads, and stages that go on from a checkpoint.

use std::path::PathBuf;

use nettailor_collective::{Collective, Solo};
use nettailor_domain::architecture::CostVector;
use nettailor_domain::stage::{StageOutcome, StageWork};
use nettailor_domain::task::{
    BnMode, CandidateSettings, Schedule, Search, StudentSettings, TrainingSettings,
};
use nettailor_domain::trainer::{
    Assignment, Checkpoint, FailureClass, Finished, ParentInput, TrainerEvent, WEIGHTS_FILE,
};
use nettailor_trainer::runtime::Clock;
use nettailor_trainer::{stages, weights};
use tch::Device;

use crate::threads;
use crate::{Bench, candidate, result, student, training, write_archive};

/// What one rank came to.
struct Ended {
    result: Result<Finished, stages::Error>,
    events: Vec<TrainerEvent>,
    folder: PathBuf,
}

impl Ended {
    fn finished(&self) -> &Finished {
        self.result.as_ref().unwrap()
    }

    fn weights(&self) -> PathBuf {
        self.folder.join(WEIGHTS_FILE)
    }

    fn checkpoints(&self) -> Vec<&Checkpoint> {
        let checkpoints = self.events.iter().filter_map(|event| match event {
            TrainerEvent::Checkpoint(checkpoint) => Some(checkpoint),
            _ => None,
        });
        checkpoints.collect()
    }
}

/// One rank's stage. `stop` says at which checkpoint the gang is broken up.
fn run(gang: &dyn Collective, assignment: &Assignment, stop: Option<usize>) -> Ended {
    tch::set_num_threads(1);
    let folder = assignment.output_dir.join(format!("rank{}", gang.rank()));
    std::fs::create_dir_all(&folder).unwrap();
    let assignment = Assignment {
        output_dir: folder.clone(),
        rank: gang.rank() as u32,
        world_size: gang.world_size() as u32,
        ..assignment.clone()
    };
    let (mut events, mut checkpoints) = (Vec::new(), 0);
    let mut sink = |event: &TrainerEvent| {
        events.push(event.clone());
        if matches!(event, TrainerEvent::Checkpoint(_)) {
            checkpoints += 1;
            if Some(checkpoints) == stop {
                gang.abort("the test breaks it up");
            }
        }
    };
    let result = stages::run(&assignment, Device::Cpu, gang, Clock::start(), &mut sink);
    Ended {
        result,
        events,
        folder,
    }
}

/// The same by every rank of a gang.
fn gang(width: usize, assignment: &Assignment, stop: Option<usize>) -> Vec<Ended> {
    match width {
        1 => threads::run(1, |_| run(&Solo::new(), assignment, stop)),
        _ => threads::run(width, |gang| run(gang, assignment, stop)),
    }
}

fn parent(ended: &Ended) -> ParentInput {
    ParentInput {
        result: result(ended.finished()),
        weights: ended.weights(),
    }
}

/// As the stages of this file train: everything that has a state of its own.
fn moving(epochs: u32) -> TrainingSettings {
    TrainingSettings {
        schedule: Schedule::Cosine,
        ema: 0.9,
        ..training(epochs, 0.02)
    }
}

fn teacher_work(epochs: u32) -> StageWork {
    StageWork::Teacher {
        training: moving(epochs),
    }
}

fn student_work(epochs: u32, bn_mode: BnMode) -> StageWork {
    StageWork::Student {
        max_skip: 2,
        student: StudentSettings {
            training: moving(epochs),
            bn_mode,
            ..student()
        },
    }
}

fn search_work(epochs: u32) -> StageWork {
    StageWork::Search {
        ladder: vec![0, 2, 4],
        // Nobody qualifies: every round is run.
        tolerance: -1.0,
        settings: CandidateSettings {
            k: None,
            search: Search::Halving,
            proxy_threshold: 0.001,
            bn_batches: 2,
            training: moving(epochs),
        },
        student: student(),
    }
}

/// A teacher and a student to start from.
fn parents(bench: &Bench) -> Vec<ParentInput> {
    let teacher = &gang(
        1,
        &bench.assignment("parent-teacher", teacher_work(1), vec![]),
        None,
    )[0];
    let parents = vec![parent(teacher)];
    let assignment = bench.assignment("parent-student", student_work(1, BnMode::Task), parents.clone());
    let student = &gang(1, &assignment, None)[0];
    [parents, vec![parent(student)]].concat()
}

/// All ranks come to the same end; the first one speaks for them.
#[track_caller]
fn as_one(ranks: &[Ended]) -> &Ended {
    let first = &ranks[0];
    for other in &ranks[1..] {
        assert_eq!(other.finished(), first.finished());
        assert!(!other.weights().exists(), "only rank 0 leaves weights");
        assert_eq!(other.events, [], "only rank 0 tells of progress");
    }
    assert!(first.weights().exists());
    first
}

#[test]
fn every_stage_works_as_a_gang() {
    let bench = Bench::new();
    let shared = std::fs::read(&bench.backbone).unwrap();
    let teacher = gang(3, &bench.assignment("teacher", teacher_work(2), vec![]), None);
    let mut all = vec![parent(as_one(&teacher))];

    // Each rank would measure other latencies; they go by the first one's.
    let mut work = student_work(2, BnMode::Task);
    if let StageWork::Student { student, .. } = &mut work {
        student.cost = CostVector::Latency;
    }
    let mut assignment = bench.assignment("student", work, all.clone());
    assignment.spec.sync_bn = true;
    let student = gang(2, &assignment, None);
    let StageOutcome::Student { held_out, .. } = &as_one(&student).finished().outcome else {
        panic!("{:?}", student[0].finished().outcome)
    };
    assert_eq!(held_out.total, 12, "every held-out image is counted once");
    all.push(parent(&student[0]));

    as_one(&gang(
        2,
        &bench.assignment("candidate", candidate(3, 0.001), all.clone()),
        None,
    ));
    as_one(&gang(2, &bench.assignment("search", search_work(8), all), None));

    let mut scratch = bench.assignment("source", StageWork::Source { training: moving(1) }, vec![]);
    scratch.backbone = None;
    as_one(&gang(2, &scratch, None));
    assert_eq!(std::fs::read(&bench.backbone).unwrap(), shared);
}

#[test]
fn what_is_estimated_and_measured_does_not_depend_on_the_width() {
    let bench = Bench::new();
    let parents = parents(&bench);
    // Enough held-out images for several batches.
    write_archive(&bench.archive, 80);
    let ends: Vec<Ended> = (1..=4)
        .map(|width| {
            let mut work = candidate(2, 0.001);
            if let StageWork::Candidate { settings, .. } = &mut work {
                // The first rank of a wide gang sees none of the batches.
                (settings.training.epochs, settings.bn_batches) = (0, 3);
            }
            let mut assignment = bench.assignment(&format!("width{width}"), work, parents.clone());
            assignment.spec.reading.held_out = 0.75;
            gang(width, &assignment, None).remove(0)
        })
        .collect();
    let StageOutcome::Candidate(tailored) = &ends[0].finished().outcome else {
        panic!("{:?}", ends[0].finished().outcome)
    };
    let held_out = tailored.point.held_out;
    assert_eq!(held_out.total, 180);
    assert!(
        (1..180).contains(&held_out.correct),
        "an accuracy of {held_out} tells nothing"
    );
    let alone = weights::Weights::read(&ends[0].weights()).unwrap();
    for end in &ends[1..] {
        assert_eq!(end.finished(), ends[0].finished());
        for (name, tensor) in weights::Weights::read(&end.weights()).unwrap().into_tensors() {
            let expected = alone.get(&name).unwrap();
            let off = f64::try_from((&tensor - expected).abs().max()).unwrap();
            let scale = f64::try_from(expected.abs().max()).unwrap();
            assert!(off <= 1e-5 * scale, "{name}: off by {off:.2e} of {scale:.2e}");
        }
    }
}

/// Breaks the stage up at its checkpoint number `stop` and goes on; the end must be that of a run that was left alone.
fn resumed_ends_as_undisturbed(bench: &Bench, name: &str, width: usize, stop: usize, assignment: Assignment) {
    let attempt = |what: &str| {
        let output_dir = bench.root.path().join(format!("{name}-{width}-{what}"));
        std::fs::create_dir_all(&output_dir).unwrap();
        Assignment {
            output_dir,
            ..assignment.clone()
        }
    };
    let undisturbed = gang(width, &attempt("undisturbed"), None);
    let undisturbed = as_one(&undisturbed);
    assert!(undisturbed.checkpoints().is_empty(), "it is not time for one");

    let often = Assignment {
        checkpoint_seconds: 0,
        ..attempt("stopped")
    };
    let stopped = gang(width, &often, Some(stop));
    for rank in &stopped {
        let error = rank.result.as_ref().unwrap_err();
        assert_eq!(error.class(), FailureClass::Lost, "{error}");
        assert!(!rank.weights().exists());
    }
    let checkpoints = stopped[0].checkpoints();
    let last = checkpoints.last().unwrap();
    let behind = (checkpoints.len(), last.epoch > 0, last.step > 0);
    assert_eq!(behind, (stop, true, true), "{last:?}");
    for checkpoint in &checkpoints {
        let newest = checkpoint == last;
        assert_eq!(checkpoint.file.exists(), newest, "{checkpoint:?}");
    }

    let again = Assignment {
        checkpoint: Some(last.file.clone()),
        ..attempt("resumed")
    };
    let resumed = gang(width, &again, None);
    let resumed = as_one(&resumed);
    assert_eq!(
        resumed.finished(),
        undisturbed.finished(),
        "{name}, {width} ranks"
    );
    let [found, expected] = [resumed, undisturbed].map(|end| weights::digest(&end.weights()).unwrap());
    assert_eq!(found, expected, "{name}, {width} ranks: weights");
    let steps = |end: &Ended| {
        let training = end.events.iter().filter_map(|event| match event {
            TrainerEvent::Progress(progress) if progress.phase == "training" => Some(progress.step),
            _ => None,
        });
        training.collect::<Vec<u64>>()
    };
    if !name.starts_with("search") {
        assert_eq!(steps(resumed)[0], last.step, "it goes on where the other stopped");
        assert_eq!(steps(resumed).last(), steps(undisturbed).last());
    }
}

#[test]
fn a_resumed_teacher_ends_as_one_that_was_left_alone() {
    let bench = Bench::new();
    for width in [1, 2] {
        let assignment = bench.assignment("teacher", teacher_work(3), vec![]);
        resumed_ends_as_undisturbed(&bench, "teacher", width, 2, assignment);
    }
}

#[test]
fn a_resumed_student_candidate_or_search_ends_as_one_that_was_left_alone() {
    let bench = Bench::new();
    let parents = parents(&bench);
    let mut candidate = candidate(3, 0.001);
    if let StageWork::Candidate { settings, .. } = &mut candidate {
        settings.training = moving(3);
    }
    let teacher = parents[..1].to_vec();
    for width in [1, 2] {
        let student = bench.assignment("student", student_work(3, BnMode::Affine), teacher.clone());
        resumed_ends_as_undisturbed(&bench, "student", width, 1, student);
        let candidate = bench.assignment("candidate", candidate.clone(), parents.clone());
        resumed_ends_as_undisturbed(&bench, "candidate", width, 2, candidate);
        let search = bench.assignment("search", search_work(8), parents.clone());
        resumed_ends_as_undisturbed(&bench, "search", width, 2, search);
    }
}

#[test]
fn a_checkpoint_of_another_stage_is_refused() {
    let bench = Bench::new();
    let mut first = bench.assignment("first", teacher_work(3), vec![]);
    first.checkpoint_seconds = 0;
    let left = &gang(1, &first, None)[0];
    let file = left.checkpoints().last().unwrap().file.clone();
    let refuse = |change: &dyn Fn(&mut Assignment)| {
        let mut other = bench.assignment("other", teacher_work(3), vec![]);
        other.checkpoint = Some(file.clone());
        change(&mut other);
        let error = gang(1, &other, None).remove(0).result.unwrap_err();
        assert_eq!(error.class(), FailureClass::Internal, "{error}");
        error.to_string()
    };
    let message = refuse(&|other| other.spec.seed += 1);
    assert!(message.contains("belongs to stage"), "{message}");
    let message = refuse(&|other| other.checkpoint = Some(left.weights()));
    assert!(message.contains("is not a checkpoint"), "{message}");
}

#[test]
fn a_gang_wider_than_its_batches_is_refused() {
    let bench = Bench::new();
    let mut work = teacher_work(1);
    if let StageWork::Teacher { training } = &mut work {
        training.batch_size = 2;
    }
    for rank in gang(3, &bench.assignment("wide", work.clone(), vec![]), None) {
        let error = rank.result.unwrap_err();
        assert_eq!(error.class(), FailureClass::Input, "{error}");
        assert!(error.to_string().contains("at most 1 workers"), "{error}");
    }
    // Where batch norms take their statistics from all parts, one image will do; three ranks are still too many.
    let mut synchronised = bench.assignment("wide-synchronised", work, vec![]);
    synchronised.spec.sync_bn = true;
    for rank in gang(3, &synchronised, None) {
        let error = rank.result.unwrap_err();
        assert!(error.to_string().contains("at most 2 workers"), "{error}");
    }
}
