//! Jobs that need the same stages.

use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::testing::task;
use nettailor_scheduler::view::{JobPhase, StagePhase};

use crate::world::{World, assigned, only, stopped};

#[test]
fn a_stage_runs_once_for_all_who_ask_for_it() {
    let mut world = World::new();
    world.connect("w", 1, 4);
    let teacher = only(&world.submit(task("a", "digits")));
    assert!(assigned(&world.submit(task("b", "digits"))).is_empty());
    let mut other = task("c", "numbers");
    other.task.student.gamma1 = 0.7;
    assert!(assigned(&world.submit(other)).is_empty());
    let users: Vec<_> = world
        .scheduler
        .stage_jobs(&teacher.seat.attempt.stage)
        .map(|job| job.id.to_string())
        .collect();
    assert_eq!(users, ["a", "b", "c"]);

    let effects = world.finish("w", 1, &teacher);
    assert_eq!(assigned(&effects).len(), 2, "two different students");
    let ran = world.run(effects);
    assert_eq!(ran.len(), 8);
    for (id, version) in [("a", 1), ("b", 1), ("c", 1)] {
        let view = world.job(id);
        assert_eq!(
            (view.phase, view.model_version, view.stages_run),
            (JobPhase::Succeeded, Some(version), 5),
            "{id}"
        );
    }
    assert_eq!(world.scheduler.models().count(), 2, "a and b share one model");
    assert_eq!(world.scheduler.stage_jobs(&teacher.seat.attempt.stage).count(), 0);
}

#[test]
fn cancelling_one_of_two_lets_the_shared_stage_run_on() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.submit(task("b", "digits"));
    assert!(stopped(&world.cancel("a")).is_empty());
    assert_eq!(world.stage("b", StageKind::Teacher).phase, StagePhase::Running);
    assert_eq!(
        only(&world.finish("w", 1, &teacher)).spec.kind(),
        StageKind::Student
    );
    assert_eq!(stopped(&world.cancel("b")).len(), 1);
}

#[test]
fn a_failed_stage_fails_every_job_that_needs_it_and_no_other() {
    let mut world = World::new();
    world.connect("w", 1, 2);
    let teacher = only(&world.submit(task("a", "digits")));
    let mut other = task("c", "other");
    other.task.seed = 7;
    let others = only(&world.submit(other));
    world.submit(task("b", "digits"));
    world.fail("w", 1, teacher.seat, FailureClass::Input);
    for id in ["a", "b"] {
        assert_eq!(world.job(id).phase, JobPhase::Failed);
        assert_eq!(
            world.job(id).reason,
            "teacher failed (input) after 1 attempt: it broke"
        );
        assert_eq!(world.stage(id, StageKind::Select).phase, StagePhase::Idle);
    }
    assert_eq!(world.job("c").phase, JobPhase::Running);
    world.finish("w", 1, &others);

    // Asked for anew, it starts over; attempt numbers go on.
    let again = only(&world.submit(task("d", "digits")));
    assert_eq!(again.seat.attempt.number, 2);
    assert_eq!(world.job("d").stages_run, 1);
}

#[test]
fn other_running_stages_of_a_failed_job_are_stopped() {
    let mut world = World::new();
    world.connect("w", 1, 2);
    let teacher = only(&world.submit(task("a", "digits")));
    let student = only(&world.finish("w", 1, &teacher));
    let candidates = assigned(&world.finish("w", 1, &student));
    assert_eq!(candidates.len(), 2);
    let effects = world.fail("w", 1, candidates[0].1.seat, FailureClass::Input);
    assert_eq!(stopped(&effects), [candidates[1].1.seat]);
    // It was done before the stop reached it: its result is kept all the same.
    world.finish("w", 1, &candidates[1].1);
    assert_eq!(world.stage("a", StageKind::Candidate(4)).phase, StagePhase::Done);
    assert_eq!(world.worker("w").slots_used, 0);
}
