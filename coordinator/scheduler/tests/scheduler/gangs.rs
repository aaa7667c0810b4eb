//! Attempts of several ranks: how they end and are found again. How they are placed is in [`super::gang_placement`], what rank
//! 0 says for all in [`super::rank_0`].

use nettailor_domain::ids::Seat;
use nettailor_domain::session::Order;
use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::{Failure, FailureClass};
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::{Event, Submission};
use nettailor_scheduler::testing::{infeasible, result, task, wide};
use nettailor_scheduler::view::StagePhase;

use crate::world::{World, acknowledged, assigned, seconds, stopped, worker};

pub(crate) fn gang(job: &str, workers: &str) -> Submission {
    wide(task(job, "digits"), workers)
}

/// The workers of what was assigned, by rank.
pub(crate) fn names(effects: &[Effect]) -> Vec<String> {
    let gang = assigned(effects);
    gang.into_iter().map(|(name, _)| name.to_string()).collect()
}

pub(crate) fn orders(effects: &[Effect]) -> Vec<Order> {
    assigned(effects).into_iter().map(|(_, order)| order).collect()
}

/// A gang of two over the workers `a` and `b`, one slot each, in session 1.
pub(crate) fn pair(world: &mut World) -> [Order; 2] {
    world.connect("a", 1, 1);
    world.connect("b", 1, 1);
    let effects = world.submit(gang("x", "2"));
    assert_eq!(names(&effects), ["a", "b"]);
    orders(&effects).try_into().expect("two ranks")
}

pub(crate) fn teacher(world: &World) -> nettailor_scheduler::view::StageView {
    world.stage("x", StageKind::Teacher)
}

fn stop_reasons(effects: &[Effect]) -> Vec<(Seat, String)> {
    let stops = effects.iter().filter_map(|effect| match effect {
        Effect::Stop { seat, reason, .. } => Some((*seat, reason.clone())),
        _ => None,
    });
    stops.collect()
}

#[test]
fn a_stage_is_done_when_all_its_ranks_are() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    let effects = world.finish("a", 1, &zero);
    assert_eq!(acknowledged(&effects), [zero.seat]);
    assert_eq!(teacher(&world).phase, StagePhase::Running);
    assert_eq!(
        (world.worker("a").slots_used, world.worker("b").slots_used),
        (0, 1)
    );
    // Said again, it frees and changes nothing more.
    assert_eq!(acknowledged(&world.finish("a", 1, &zero)), [zero.seat]);
    assert_eq!(world.scheduler.counters().duplicate_reports, 1);
    // That it was said survives, and so does what was found.
    world.restart();
    let effects = world.connect_with("a", 2, 1, &[zero.seat], &[]);
    assert_eq!(acknowledged(&effects), [zero.seat]);
    world.connect_with("b", 2, 1, &[one.seat], &[]);
    let effects = world.finish("b", 2, &one);
    assert_eq!(names(&effects).len(), 2, "the student");
    assert_eq!(teacher(&world).phase, StagePhase::Done);
    assert_eq!(teacher(&world).result.as_deref(), Some(&result(&zero)));
    assert_eq!(teacher(&world).reason, "done by a, b in 2.0 s");
}

#[test]
fn rank_0_may_be_the_last_and_what_others_found_is_not_looked_at() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    world.finish_with("b", 1, one.seat, infeasible(2));
    assert_eq!(teacher(&world).phase, StagePhase::Running);
    world.finish("a", 1, &zero);
    assert_eq!(teacher(&world).result.as_deref(), Some(&result(&zero)));
}

#[test]
fn rank_0_that_is_done_without_a_result_is_a_fault() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    let effects = world.apply(Event::SeatFinished {
        worker: worker("a"),
        session: 1,
        seat: zero.seat,
        result: None,
    });
    assert_eq!(stopped(&effects), [one.seat]);
    assert_eq!(
        teacher(&world).reason,
        "retry 2 of 3 in 1 s after: the worker reported teacher as done without a result"
    );
}

#[test]
fn the_first_rank_that_fails_ends_the_attempt_for_all() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    let effects = world.fail("b", 1, one.seat, FailureClass::Internal);
    assert_eq!(
        stop_reasons(&effects),
        [(zero.seat, "rank 1 on b ended: it broke".to_owned())]
    );
    assert_eq!(
        (world.worker("a").slots_used, world.worker("b").slots_used),
        (1, 0)
    );
    assert_eq!(teacher(&world).reason, "retry 2 of 3 in 1 s after: it broke");
    // There is a slot, and it needs two.
    assert!(assigned(&world.pass(seconds(2))).is_empty());
    assert_eq!(
        teacher(&world).reason,
        "waits for 2 free slots: 1 of 2 busy (retry 2 of 3 after: it broke)"
    );
    let again = world.fail("a", 1, zero.seat, FailureClass::Lost);
    assert_eq!(
        (names(&again).len(), orders(&again)[0].seat.attempt.number),
        (2, 2)
    );
    // What the stopped one says does not count, however often it says so.
    assert!(assigned(&world.fail("a", 1, zero.seat, FailureClass::Internal)).is_empty());
    let counters = world.scheduler.counters();
    assert_eq!((counters.faults, counters.stale_reports), (1, 2));
    assert_eq!(world.worker("a").slots_used, 1);
}

#[test]
fn a_rank_that_fails_after_others_were_done_ends_the_attempt_all_the_same() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    world.finish("a", 1, &zero);
    assert!(stopped(&world.fail("b", 1, one.seat, FailureClass::Resources)).is_empty());
    assert_eq!(teacher(&world).phase, StagePhase::Queued);
    assert_eq!(world.worker("a").slots_used + world.worker("b").slots_used, 0);
}

#[test]
fn a_rank_that_is_lost_with_its_worker_ends_the_attempt_which_goes_on_with_fewer() {
    let mut world = World::new();
    world.connect("a", 1, 1);
    world.connect("b", 1, 1);
    let effects = world.submit(gang("x", "1..2"));
    let [zero, one] = orders(&effects).try_into().expect("two ranks");
    world.runs("b", 1, one.seat);
    world.disconnect("b", 1);
    assert!(
        teacher(&world)
            .reason
            .starts_with("b is disconnected; waiting for it")
    );
    // The other is not stopped as long as nothing takes the attempt's place, and its slot is not free for the next.
    assert!(stopped(&world.pass(seconds(1))).is_empty());
    assert_eq!(world.scheduler.counters().losses, 1);
    assert_eq!(teacher(&world).phase, StagePhase::Queued);
    let reason = teacher(&world).reason;
    assert!(
        reason.ends_with("after: b disconnected and did not come back in time)"),
        "{reason}"
    );
    assert!(world.scheduler.takes_slot(&worker("a"), zero.seat));
    // It knows better, and is believed at once.
    let again = world.fail("a", 1, zero.seat, FailureClass::Lost);
    assert_eq!(
        (names(&again), orders(&again)[0].world_size),
        (vec!["a".into()], 1)
    );
    assert_eq!(world.scheduler.counters().losses, 1);
    // The worker comes back with what nobody waits for any more.
    assert_eq!(
        stopped(&world.connect_with("b", 2, 1, &[one.seat], &[])),
        [one.seat]
    );
    assert_eq!(world.scheduler.counters().adopted, 0);
}

#[test]
fn several_ranks_that_are_lost_with_one_worker_are_one_loss() {
    let mut world = World::new();
    world.connect("a", 1, 2);
    let ranks = orders(&world.submit(gang("x", "2")));
    ranks.iter().for_each(|rank| world.runs("a", 1, rank.seat));
    world.disconnect("a", 1);
    world.pass(seconds(12));
    assert_eq!(world.scheduler.counters().losses, 1);
    // As long as no other has started, it goes on.
    let seats = [ranks[0].seat, ranks[1].seat];
    let effects = world.connect_with("a", 2, 2, &seats, &[]);
    assert!(stopped(&effects).is_empty());
    assert_eq!(
        (teacher(&world).phase, teacher(&world).attempt),
        (StagePhase::Running, 1)
    );
    let counters = world.scheduler.counters();
    assert_eq!((counters.losses, counters.adopted), (0, 1));
}

#[test]
fn the_last_open_rank_is_taken_up_again() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    world.finish("b", 1, &one);
    world.runs("a", 1, zero.seat);
    world.disconnect("a", 1);
    world.pass(seconds(12));
    assert_eq!(teacher(&world).phase, StagePhase::Queued);
    let effects = world.connect_with("a", 2, 1, &[zero.seat], &[]);
    assert!(stopped(&effects).is_empty());
    assert_eq!(teacher(&world).phase, StagePhase::Running);
    world.finish("a", 2, &zero);
    assert_eq!(teacher(&world).phase, StagePhase::Done);
}

#[test]
fn what_peers_lost_is_the_loss_of_the_worker_that_is_away() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    world.runs("b", 1, one.seat);
    world.disconnect("b", 1);
    let silent = Failure {
        class: FailureClass::Lost,
        message: "rank 1 was silent for 3 s".into(),
    };
    world.fail_with("a", 1, zero.seat, silent.clone());
    assert_eq!(
        teacher(&world).reason,
        "needs 2 slots; 1 connected (loss 1 in a row, next attempt after: b is disconnected; a says: rank 1 was silent for 3 s)"
    );
    // Its end is the end of that seat and of nothing else.
    let effects = world.connect_with("b", 2, 1, &[one.seat], &[]);
    assert_eq!(stopped(&effects), [one.seat]);
    let again = orders(&world.fail("b", 2, one.seat, FailureClass::Lost));
    assert_eq!(again.len(), 2, "at once");

    // Nobody is away: they lost each other, nobody knows by whose doing.
    world.fail_with("a", 1, again[0].seat, silent.clone());
    assert_eq!(
        teacher(&world).reason,
        "loss 2 in a row, next attempt in 1 s after: rank 1 was silent for 3 s"
    );
    assert!(teacher(&world).workers.is_empty());
    world.fail("b", 2, again[1].seat, FailureClass::Lost);
    let counters = world.scheduler.counters();
    assert_eq!((counters.losses, counters.returns, counters.faults), (2, 0, 0));
    // A worker leaves with its rank: that is no loss, whoever says so first.
    let again = orders(&world.pass(seconds(1)));
    assert_eq!(again.len(), 2);
    world.apply(Event::WorkerDraining {
        worker: worker("b"),
        session: 2,
    });
    world.fail_with("a", 1, again[0].seat, silent);
    assert_eq!(teacher(&world).workers, [worker("a")]);
    assert_eq!(world.scheduler.counters().returns, 1);
}

#[test]
fn a_rank_that_says_why_is_believed_although_its_peers_were_faster() {
    let mut world = World::new();
    let mut ranks = pair(&mut world);
    for tries in 1..=3 {
        let [zero, one] = &ranks;
        // The others see at once that it is gone; its agent has yet to hear how its trainer ended.
        let effects = world.fail("a", 1, zero.seat, FailureClass::Lost);
        assert_eq!(stopped(&effects), [one.seat]);
        assert_eq!(world.scheduler.counters().losses, 1);
        let effects = world.fail("b", 1, one.seat, FailureClass::Internal);
        assert_eq!(acknowledged(&effects), [one.seat]);
        let counters = world.scheduler.counters();
        assert_eq!((counters.losses, counters.faults), (0, tries));
        if tries < 3 {
            assert_eq!(teacher(&world).workers, [worker("b")]);
            assert!(
                teacher(&world)
                    .reason
                    .starts_with(&format!("retry {} of 3", tries + 1))
            );
            ranks = orders(&world.pass(seconds(2))).try_into().expect("two ranks");
        }
    }
    let reason = world.job("x").reason;
    assert_eq!(reason, "teacher failed (internal) after 3 attempts: it broke");
    // Of another attempt it would be too late, and nobody asks twice.
    let last = ranks[1].seat;
    world.fail("b", 1, last, FailureClass::Internal);
    assert_eq!(world.scheduler.counters().faults, 3);
}

#[test]
fn what_a_stopped_rank_logs_is_of_interest_until_it_has_ended() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    world.fail("b", 1, one.seat, FailureClass::Internal);
    assert!(!world.scheduler.is_current(&worker("a"), zero.seat));
    assert!(world.scheduler.takes_slot(&worker("a"), zero.seat));
    assert!(!world.scheduler.takes_slot(&worker("b"), one.seat));
}

#[test]
fn a_gang_is_stopped_as_a_whole_when_nobody_asks_for_it_or_its_time_is_over() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    assert_eq!(stopped(&world.cancel("x")), [zero.seat, one.seat]);
    for (name, rank) in [("a", zero), ("b", one)] {
        world.fail(name, 1, rank.seat, FailureClass::Lost);
    }
    assert_eq!(teacher(&world).phase, StagePhase::Idle);

    let mut short = wide(task("y", "other"), "2");
    short.task.seed = 1;
    short.task.resources.stage_minutes = 1;
    let ranks = orders(&world.submit(short));
    let mut effects = Vec::new();
    for _ in 0..20 {
        for name in ["a", "b"] {
            world.heartbeat(name, 1);
        }
        effects.extend(world.pass(seconds(3)));
    }
    assert_eq!(stopped(&effects), [ranks[0].seat, ranks[1].seat]);
    let effects = world.fail("b", 1, ranks[1].seat, FailureClass::Lost);
    assert!(stopped(&effects).is_empty(), "it was told before");
    let reason = world.stage("y", StageKind::Teacher).reason;
    assert!(
        reason.starts_with("retry 2 of 3 in 1 s after: it was stopped"),
        "{reason}"
    );
}

#[test]
fn a_gang_is_found_again_after_a_restart_if_all_its_workers_come_back() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    world.restart();
    assert!(stopped(&world.connect_with("b", 2, 1, &[one.seat], &[])).is_empty());
    assert!(stopped(&world.connect_with("a", 2, 1, &[zero.seat], &[])).is_empty());
    assert_eq!(teacher(&world).phase, StagePhase::Running);
    world.finish("a", 2, &zero);
    assert_eq!(names(&world.finish("b", 2, &one)), ["a", "b"]);
}

#[test]
fn a_gang_of_which_a_worker_does_not_come_back_is_lost_and_the_rest_is_stopped() {
    let mut world = World::new();
    let [zero, _] = pair(&mut world);
    world.restart();
    world.connect_with("a", 2, 1, &[zero.seat], &[]);
    let wait = |world: &mut World, times: u32| {
        let mut effects = Vec::new();
        for _ in 0..times {
            effects.extend(world.pass(seconds(3)));
            world.heartbeat("a", 2);
        }
        stopped(&effects)
    };
    // The grace, and as long again for the rest to be back.
    assert!(wait(&mut world, 13).is_empty());
    assert_eq!(teacher(&world).phase, StagePhase::Queued);
    assert_eq!(wait(&mut world, 1), [zero.seat]);
    world.fail("a", 2, zero.seat, FailureClass::Lost);
    assert_eq!(names(&world.connect("b", 2, 1)), ["a", "b"]);
    assert_eq!(teacher(&world).attempt, 2);
}

#[test]
fn a_worker_that_comes_back_with_half_of_its_ranks_has_lost_the_attempt() {
    let mut world = World::new();
    world.connect("a", 1, 2);
    let ranks = orders(&world.submit(gang("x", "2")));
    world.disconnect("a", 1);
    let effects = world.connect_with("a", 2, 2, &[ranks[0].seat], &[]);
    assert_eq!(
        stop_reasons(&effects),
        [(
            ranks[0].seat,
            "rank 1 on a ended: a does not know the attempt".to_owned()
        )]
    );
    let again = world.fail("a", 2, ranks[0].seat, FailureClass::Lost);
    assert_eq!(names(&again), ["a", "a"]);
}
