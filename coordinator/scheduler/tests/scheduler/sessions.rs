//! Workers that come, go, come back and are talked over.

use nettailor_domain::ids::{Attempt, Seat};
use nettailor_domain::session::Offer;
use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::event::Event;
use nettailor_scheduler::testing::{result, task};
use nettailor_scheduler::view::{StagePhase, WorkerPhase};

use crate::world::{World, acknowledged, assigned, closed, millis, only, seconds, stopped, worker};

/// The same seat of another attempt.
fn numbered(seat: Seat, number: u32) -> Seat {
    let attempt = Attempt {
        number,
        ..seat.attempt
    };
    Seat { attempt, ..seat }
}

#[test]
fn a_worker_that_comes_back_in_time_goes_on() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.disconnect("w", 1);
    assert_eq!(world.worker("w").phase, WorkerPhase::Disconnected);
    world.pass(millis(499));
    let effects = world.connect_with("w", 2, 1, &[teacher.seat], &[]);
    assert!(assigned(&effects).is_empty() && stopped(&effects).is_empty());
    assert_eq!(world.worker("w").slots_used, 1);
    world.heartbeat("w", 2);
    world.pass(seconds(3));
    assert_eq!(
        only(&world.finish("w", 2, &teacher)).spec.kind(),
        StageKind::Student
    );
    assert_eq!(world.scheduler.counters().losses, 0);
}

#[test]
fn an_attempt_that_its_worker_does_not_know_is_placed_again_at_once() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.disconnect("w", 1);
    let again = only(&world.connect("w", 2, 1));
    assert_eq!(again.seat, numbered(teacher.seat, 2));
    assert_eq!(world.job("a").stages_run, 1);
}

#[test]
fn attempts_that_are_not_current_are_stopped_and_hold_their_slot_until_they_ended() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let old = only(&world.submit(task("a", "digits"))).seat;
    world.disconnect("w", 1);
    world.pass(seconds(12));
    world.connect("v", 1, 1);
    let effects = world.connect_with("w", 2, 2, &[old], &[]);
    assert_eq!(stopped(&effects), [old]);
    assert_eq!(world.worker("w").slots_used, 1);
    assert!(
        world.worker("w").running[0]
            .description
            .ends_with("teacher, attempt 1, rank 0, stopping")
    );
    // Its result comes too late: another attempt is current.
    assert!(world.scheduler.is_current(&worker("v"), numbered(old, 2)));
    let effects = world.fail("w", 2, old, FailureClass::Internal);
    assert_eq!(acknowledged(&effects), [old]);
    assert_eq!(world.worker("w").slots_used, 0);
    assert_eq!(world.scheduler.counters().stale_reports, 1);
    assert_eq!(world.stage("a", StageKind::Teacher).phase, StagePhase::Running);
}

#[test]
fn an_attempt_brought_back_late_goes_on_if_no_other_has_started() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.runs("w", 1, teacher.seat);
    for session in 2..=11 {
        world.disconnect("w", session - 1);
        world.pass(seconds(12));
        assert_eq!(world.stage("a", StageKind::Teacher).phase, StagePhase::Queued);
        // It is no other worker's to bring back.
        assert_eq!(
            stopped(&world.connect_with("v", session, 0, &[teacher.seat], &[])),
            [teacher.seat]
        );
        let effects = world.connect_with("w", session, 1, &[teacher.seat], &[]);
        assert!(assigned(&effects).is_empty() && stopped(&effects).is_empty());
        assert!(world.scheduler.is_current(&worker("w"), teacher.seat));
    }
    assert_eq!(
        only(&world.finish("w", 11, &teacher)).spec.kind(),
        StageKind::Student
    );
    assert_eq!(world.job("a").stages_run, 2);
    assert_eq!(world.scheduler.counters().adopted, 10);
}

#[test]
fn an_attempt_brought_back_for_nobody_or_after_its_end_was_reported_is_stopped() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits"))).seat;
    world.fail("w", 1, teacher, FailureClass::Internal);
    // The acknowledgement was lost with the stream.
    world.disconnect("w", 1);
    assert_eq!(
        stopped(&world.connect_with("w", 2, 1, &[teacher], &[])),
        [teacher]
    );
    world.fail("w", 2, teacher, FailureClass::Internal);
    let again = only(&world.pass(seconds(1))).seat;
    world.runs("w", 2, again);
    world.disconnect("w", 2);
    world.pass(seconds(12));
    world.cancel("a");
    assert_eq!(stopped(&world.connect_with("w", 3, 1, &[again], &[])), [again]);
    assert_eq!(world.scheduler.counters().adopted, 0);
}

#[test]
fn the_deadline_of_an_attempt_goes_on_while_its_worker_is_away() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let mut short = task("a", "digits");
    short.task.resources.stage_minutes = 1;
    let teacher = only(&world.submit(short)).seat;
    world.disconnect("w", 1);
    world.pass(seconds(90));
    world.connect_with("w", 2, 1, &[teacher], &[]);
    assert_eq!(stopped(&world.pass(seconds(1))), [teacher]);
}

#[test]
fn reports_count_once_and_only_from_the_worker_that_has_the_attempt() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.connect("v", 1, 0);
    assert_eq!(acknowledged(&world.finish("v", 1, &teacher)), [teacher.seat]);
    assert_eq!(world.stage("a", StageKind::Teacher).phase, StagePhase::Running);
    assert_eq!(world.scheduler.counters().stale_reports, 1);

    assert_eq!(assigned(&world.finish("w", 1, &teacher)).len(), 1);
    let effects = world.finish("w", 1, &teacher);
    assert_eq!(acknowledged(&effects), [teacher.seat]);
    assert!(assigned(&effects).is_empty());
    assert_eq!(world.scheduler.counters().duplicate_reports, 1);

    // The acknowledgement was lost with the stream: the worker still lists it, and is told again.
    let student = world
        .scheduler
        .job(&crate::world::job("a"))
        .expect("the job")
        .stages[1]
        .key;
    let attempt = Attempt {
        stage: student,
        number: 1,
    };
    let running = Seat { attempt, rank: 0 };
    world.disconnect("w", 1);
    let effects = world.connect_with("w", 2, 1, &[running, teacher.seat], &[]);
    assert_eq!(acknowledged(&effects), [teacher.seat]);
    assert!(stopped(&effects).is_empty());
    assert_eq!(world.worker("w").slots_used, 1);

    // Nobody ever heard of this one.
    let unknown = numbered(teacher.seat, 9);
    assert_eq!(
        acknowledged(&world.fail("w", 2, unknown, FailureClass::Internal)),
        [unknown]
    );
}

#[test]
fn a_newer_session_replaces_the_older_whose_messages_no_longer_count() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    let effects = world.connect_with("w", 2, 1, &[teacher.seat], &[]);
    assert_eq!(closed(&effects), [1]);
    assert!(world.finish("w", 1, &teacher).is_empty());
    assert!(world.disconnect("w", 1).is_empty());
    assert!(world.connect("w", 1, 1).is_empty());
    assert_eq!(world.worker("w").phase, WorkerPhase::Ready);
    assert_eq!(world.scheduler.counters().old_session_messages, 3);
    assert_eq!(assigned(&world.finish("w", 2, &teacher)).len(), 1);
}

#[test]
fn a_draining_worker_gets_nothing_new_and_ends_what_it_has() {
    let mut world = World::new();
    world.connect("w", 1, 2);
    let teacher = only(&world.submit(task("a", "digits")));
    world.apply(Event::WorkerDraining {
        worker: worker("w"),
        session: 1,
    });
    assert_eq!(world.worker("w").reason, "takes no new work; 1 rank left");
    assert!(assigned(&world.finish_with("w", 1, teacher.seat, result(&teacher))).is_empty());
    let reason = world.stage("a", StageKind::Student).reason;
    assert_eq!(
        reason,
        "waits: no worker takes new work, 1 worker draining or out of use"
    );
    assert_eq!(only(&world.connect("v", 1, 1)).spec.kind(), StageKind::Student);
}

#[test]
fn a_worker_that_comes_back_draining_gets_nothing_new() {
    let mut world = World::new();
    world.submit(task("a", "digits"));
    let offer = Offer {
        slots: 1,
        threads_per_slot: 1,
        device: "cpu".into(),
        cached: vec![],
        seats: vec![],
        version: "0.1.0".into(),
        labels: Default::default(),
        draining: true,
    };
    let effects = world.apply(Event::WorkerConnected {
        worker: worker("w"),
        session: 1,
        offer,
    });
    assert!(assigned(&effects).is_empty());
    assert_eq!(world.worker("w").phase, WorkerPhase::Draining);
}

#[test]
fn a_stop_that_could_not_be_sent_is_sent_when_the_worker_is_back() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.disconnect("w", 1);
    assert!(stopped(&world.cancel("a")).is_empty());
    let effects = world.connect_with("w", 2, 1, &[teacher.seat], &[]);
    assert_eq!(stopped(&effects), [teacher.seat]);
}
