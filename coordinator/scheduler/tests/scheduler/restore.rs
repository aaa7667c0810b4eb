//! The coordinator dies and comes back.

use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::event::Now;
use nettailor_scheduler::record::{JobRecord, Record, RecordKey};
use nettailor_scheduler::testing::task;
use nettailor_scheduler::view::{JobPhase, WorkerPhase};
use nettailor_scheduler::{Config, RestoreError, Scheduler};

use crate::world::{World, assigned, job, only, seconds, stopped};

#[test]
fn running_attempts_are_found_again_after_a_restart() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.restart();
    assert_eq!(world.worker("w").phase, WorkerPhase::Disconnected);
    assert_eq!(world.job("a").phase, JobPhase::Running);
    // Longer than the time to reattach: agents have to find the coordinator again.
    world.pass(seconds(19));
    let effects = world.connect_with("w", 2, 1, &[teacher.seat], &[]);
    assert!(assigned(&effects).is_empty());
    assert_eq!(
        only(&world.finish("w", 2, &teacher)).spec.kind(),
        StageKind::Student
    );
    assert_eq!(world.job("a").stages_run, 2);
}

#[test]
fn attempts_of_workers_that_do_not_come_back_are_placed_again_after_the_grace() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    only(&world.submit(task("a", "digits")));
    world.restart();
    assert!(assigned(&world.connect("v", 1, 1)).is_empty());
    for _ in 0..19 {
        assert!(assigned(&world.pass(seconds(1))).is_empty());
        world.heartbeat("v", 1);
    }
    assert_eq!(only(&world.pass(seconds(1))).seat.attempt.number, 2);
}

#[test]
fn an_attempt_that_was_durable_but_never_sent_is_placed_again_when_its_worker_is_back() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    world.submit(task("a", "digits"));
    world.restart();
    assert_eq!(only(&world.connect("w", 2, 1)).seat.attempt.number, 2);
}

#[test]
fn an_attempt_of_a_cancelled_job_is_stopped_when_its_worker_is_back() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.cancel("a");
    world.restart();
    assert_eq!(
        stopped(&world.connect_with("w", 2, 1, &[teacher.seat], &[])),
        [teacher.seat]
    );
    world.fail("w", 2, teacher.seat, FailureClass::Internal);
    assert_eq!(world.worker("w").slots_used, 0);
    assert_eq!(world.scheduler.counters().faults, 0);
}

#[test]
fn finished_work_models_and_order_survive() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let effects = world.submit(task("a", "digits"));
    world.run(effects);
    let before = world.job("a");
    world.restart();
    let after = world.job("a");
    assert_eq!(
        (after.phase, after.model_version, &after.reason),
        (before.phase, Some(1), &before.reason)
    );
    world.submit(task("b", "digits"));
    let view = world.job("b");
    assert_eq!(
        (view.sequence, view.model_version, view.stages_run),
        (2, Some(1), 0)
    );
}

#[test]
fn contradicting_records_are_refused() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let effects = world.submit(task("a", "digits"));
    world.run(effects);
    let records: Vec<Record> = world.kept.values().cloned().collect();
    let restore = |records: Vec<Record>| {
        let now = Now {
            elapsed: seconds(0),
            listened: seconds(0),
            wall_ms: 0,
        };
        Scheduler::restore(Config::default(), records, now).expect_err("refused")
    };
    let without = |key: RecordKey| {
        records
            .iter()
            .filter(|record| record.key() != key)
            .cloned()
            .collect()
    };

    let teacher = world.key("a", StageKind::Teacher);
    let found = match restore(without(RecordKey::Job(1))) {
        RestoreError::UnknownJob(1) => true,
        RestoreError::UnknownStage(key) => key == teacher,
        _ => false,
    };
    assert!(found);

    let twice = |record: &Record| records.iter().chain([record]).cloned().collect::<Vec<_>>();
    let stage = records
        .iter()
        .find(|record| matches!(record, Record::Stage(_)))
        .expect("a stage");
    assert!(matches!(restore(twice(stage)), RestoreError::Duplicate(_)));
    let model = records
        .iter()
        .find(|record| matches!(record, Record::Model(_)))
        .expect("a model");
    assert!(matches!(
        restore(twice(model)),
        RestoreError::VersionGap {
            found: 2,
            newest: 1,
            ..
        }
    ));
    let Some(Record::Job(found)) = records.iter().find(|record| matches!(record, Record::Job(_))) else {
        panic!("a job was kept");
    };
    let mut other = JobRecord::clone(found);
    other.id = job("b");
    let same = RestoreError::SameSequence {
        first: job("a"),
        second: job("b"),
        sequence: 1,
    };
    assert_eq!(restore(twice(&Record::Job(other.into()))), same);
    let mut bare = JobRecord::clone(found);
    (bare.id, bare.sequence) = (job("b"), 2);
    bare.stages.pop();
    assert_eq!(
        restore(twice(&Record::Job(bare.into()))),
        RestoreError::OtherPlan {
            job: job("b"),
            kept: 4,
            planned: 5,
        }
    );
}

#[test]
fn a_job_counts_what_was_run_for_it_whatever_comes_between() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    let student = only(&world.finish("w", 1, &teacher));
    world.submit(task("b", "letters"));
    assert_eq!((world.job("a").stages_run, world.job("b").stages_run), (2, 1));
    world.restart();
    assert_eq!((world.job("a").stages_run, world.job("b").stages_run), (2, 1));
    let effects = world.connect_with("w", 2, 1, &[student.seat], &[]);
    assert!(assigned(&effects).is_empty());
    world.cancel("a");
    world.restart();
    assert_eq!((world.job("a").stages_run, world.job("b").stages_run), (2, 1));
    let reused = |id| world.stage(id, StageKind::Teacher).reused;
    assert_eq!((reused("a"), reused("b")), (false, true));
}
