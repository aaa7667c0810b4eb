//! Attempts that end without a result.

use nettailor_domain::ids::Seat;
use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::testing::{infeasible, result, task};
use nettailor_scheduler::view::{JobPhase, StagePhase};

use crate::world::{LOST, World, assigned, only, seconds, stopped};

#[test]
fn faults_are_retried_with_growing_waits_until_the_attempts_are_used_up() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let first = only(&world.submit(task("a", "digits"))).seat;
    assert!(assigned(&world.fail("w", 1, first, FailureClass::Internal)).is_empty());
    let stage = world.stage("a", StageKind::Teacher);
    assert_eq!(
        (stage.phase, stage.reason.as_str()),
        (StagePhase::Queued, "retry 2 of 3 in 1 s after: it broke")
    );
    assert!(assigned(&world.pass(seconds(1) / 2)).is_empty());
    let second = only(&world.pass(seconds(1) / 2)).seat;
    assert_eq!(second.attempt.number, 2);
    world.fail("w", 1, second, FailureClass::Resources);
    assert!(assigned(&world.pass(seconds(1))).is_empty());
    let third = only(&world.pass(seconds(1))).seat;
    world.fail("w", 1, third, FailureClass::Internal);
    let view = world.job("a");
    assert_eq!(view.phase, JobPhase::Failed);
    assert_eq!(
        view.reason,
        "teacher failed (internal) after 3 attempts: it broke"
    );
    assert_eq!(view.stages_run, 1, "retries are the same stage");
    assert_eq!(world.scheduler.counters().faults, 3);
}

#[test]
fn the_most_patient_job_decides_how_often() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let mut once = task("a", "digits");
    once.task.resources.max_attempts = 1;
    let seat = only(&world.submit(once)).seat;
    world.submit(task("b", "digits"));
    world.fail("w", 1, seat, FailureClass::Internal);
    assert_eq!(world.job("a").phase, JobPhase::Running);
    assert!(
        world
            .stage("a", StageKind::Teacher)
            .reason
            .starts_with("retry 2 of 3")
    );
}

#[test]
fn a_retry_goes_to_another_worker_if_there_is_one() {
    let mut world = World::new();
    world.connect("a", 1, 2);
    let seat = only(&world.submit(task("a", "digits"))).seat;
    world.connect("b", 1, 1);
    world.fail("a", 1, seat, FailureClass::Resources);
    let effects = world.pass(seconds(1));
    assert_eq!(assigned(&effects)[0].0.as_str(), "b");
}

#[test]
fn lost_attempts_are_not_faults_and_a_stage_that_keeps_losing_workers_is_left_alone_for_longer_each_time() {
    let mut world = World::new();
    let mut once = task("a", "digits");
    once.task.resources.max_attempts = 1;
    world.submit(once);
    // Of the third worker on that it loses the stage is left alone: a minute, then two.
    for (session, wait) in (1..=4).zip([0, 0, 60, 120]) {
        let name = format!("w{session}");
        let seat = only(&world.connect(&name, session, 1)).seat;
        assert_eq!(u64::from(seat.attempt.number), session);
        world.runs(&name, session, seat);
        world.disconnect(&name, session);
        world.pass(LOST);
        let reason = world.stage("a", StageKind::Teacher).reason;
        if wait > 0 {
            let expected = format!("it lost {session} workers in a row");
            assert!(
                reason.starts_with("set aside") && reason.contains(&expected),
                "{reason}"
            );
            assert!(assigned(&world.connect("v", 10 + session, 1)).is_empty());
            world.disconnect("v", 10 + session);
            world.pass(seconds(wait));
        }
    }
    assert_eq!(world.job("a").phase, JobPhase::Running, "it never fails by that");
    let counters = world.scheduler.counters();
    assert_eq!((counters.faults, counters.losses), (0, 4));
    let workers = world.scheduler.workers().count();
    assert_eq!(workers, 0, "a worker whose lease ended is forgotten");
}

#[test]
fn a_stage_that_gets_on_may_lose_any_number_of_workers() {
    let mut world = World::new();
    world.submit(task("a", "digits"));
    for session in 1..=6 {
        let name = format!("w{session}");
        let seat = only(&world.connect(&name, session, 1)).seat;
        world.runs(&name, session, seat);
        world.checkpoint(&name, session, seat, session as u32);
        world.disconnect(&name, session);
        world.pass(LOST);
        let reason = world.stage("a", StageKind::Teacher).reason;
        assert!(!reason.contains("set aside"), "{reason}");
    }
}

#[test]
fn a_worker_can_say_that_it_lost_an_attempt() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let mut once = task("a", "digits");
    once.task.resources.max_attempts = 1;
    let seat = only(&world.submit(once)).seat;
    world.fail("w", 1, seat, FailureClass::Lost);
    assert_eq!(
        world.stage("a", StageKind::Teacher).reason,
        "next attempt in 1 s after: it broke"
    );
    assert_eq!(only(&world.pass(seconds(1))).seat.attempt.number, 2);
}

#[test]
fn what_workers_give_back_never_uses_up_the_losses() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let mut seat = only(&world.submit(task("a", "digits"))).seat;
    for number in 2..=10 {
        world.runs("w", 1, seat);
        world.fail("w", 1, seat, FailureClass::Lost);
        seat = only(&world.pass(seconds(1))).seat;
        assert_eq!(seat.attempt.number, number);
        world.heartbeat("w", 1);
    }
    assert_eq!(world.job("a").stages_run, 1, "it is one stage all the same");
    let counters = world.scheduler.counters();
    assert_eq!((counters.losses, counters.returns), (0, 9));
    // Nor is that forgotten with a restart.
    world.restart();
    world.connect_with("w", 2, 1, &[seat], &[]);
    world.fail("w", 2, seat, FailureClass::Lost);
    only(&world.pass(seconds(1)));
    assert_eq!(world.job("a").stages_run, 1);
}

#[test]
fn assignments_that_do_not_reach_their_worker_never_use_up_the_losses() {
    let mut world = World::new();
    world.submit(task("a", "digits"));
    for session in 1..=10 {
        assert_eq!(assigned(&world.connect("w", session, 1)).len(), 1);
        world.disconnect("w", session);
    }
    world.pass(seconds(12));
    assert_eq!(assigned(&world.connect("w", 11, 1)).len(), 1);
    let counters = world.scheduler.counters();
    assert_eq!((counters.losses, counters.returns), (0, 10));
}

/// Keeps a worker alive for some minutes. Returns what was stopped.
fn minutes(world: &mut World, number: u64) -> Vec<Seat> {
    let mut all = Vec::new();
    for _ in 0..number * 20 {
        all.extend(stopped(&world.pass(seconds(3))));
        world.heartbeat("w", 1);
    }
    all
}

#[test]
fn a_stage_past_its_deadline_is_stopped_and_counted() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let mut short = task("a", "digits");
    short.task.resources.stage_minutes = 1;
    short.task.resources.max_attempts = 1;
    let seat = only(&world.submit(short)).seat;
    assert!(stopped(&world.pass(seconds(3))).is_empty());
    world.heartbeat("w", 1);
    assert_eq!(minutes(&mut world, 1), [seat]);
    assert_eq!(
        world.stage("a", StageKind::Teacher).reason,
        "is being stopped on w: it ran for longer than 1 min"
    );
    assert_eq!(world.worker("w").slots_used, 1);
    // The agent says so of whatever it was told to stop.
    world.fail("w", 1, seat, FailureClass::Lost);
    assert!(
        world
            .job("a")
            .reason
            .starts_with("teacher failed (deadline) after 1 attempt: it was stopped")
    );
}

#[test]
fn a_job_that_allows_more_time_extends_the_deadline_and_takes_it_along() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let mut short = task("a", "digits");
    short.task.resources.stage_minutes = 1;
    let seat = only(&world.submit(short)).seat;
    let mut long = task("b", "digits");
    long.task.resources.stage_minutes = 4;
    world.submit(long);
    assert!(minutes(&mut world, 2).is_empty());
    world.cancel("b");
    assert_eq!(minutes(&mut world, 1)[..1], [seat]);
}

#[test]
fn a_result_of_another_stage_is_a_fault() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.finish_with("w", 1, teacher.seat, infeasible(2));
    let expected = "retry 2 of 3 in 1 s after: the trainer reported infeasible candidate(2) where the result of teacher was expected";
    assert_eq!(world.stage("a", StageKind::Teacher).reason, expected);
    let teacher = only(&world.pass(seconds(1)));
    let mut bare = result(&teacher);
    bare.weights = None;
    world.finish_with("w", 1, teacher.seat, bare);
    assert!(
        world
            .stage("a", StageKind::Teacher)
            .reason
            .ends_with("without leaving its weights")
    );
}

#[test]
fn a_measurement_of_a_candidate_that_was_not_chosen_is_a_fault() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let mut order = only(&world.submit(task("a", "digits")));
    while order.spec.kind() != StageKind::Select {
        order = only(&world.finish("w", 1, &order));
    }
    if let Some(selection) = &mut order.selection {
        selection.k = 2;
    }
    world.finish("w", 1, &order);
    let reason = world.stage("a", StageKind::Select).reason;
    assert!(
        reason.ends_with("reported a measurement of candidate(2) where the result of select was expected")
    );
}
