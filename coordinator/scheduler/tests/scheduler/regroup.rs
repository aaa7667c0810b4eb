//! Gangs whose workers are away for a while.

use nettailor_domain::ids::Digest;
use nettailor_domain::session::Order;
use nettailor_domain::stage::{Artifact, Checkpoint};
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::Event;
use nettailor_scheduler::testing::result;
use nettailor_scheduler::view::{JobPhase, StagePhase};

use crate::gangs::{gang, names, pair, teacher};
use crate::world::{World, acknowledged, assigned, millis, seconds, stopped, worker};

/// A gang of two whose rank 1 ran on `b`, which is away longer than it takes to reattach.
fn parted(world: &mut World) -> [Order; 2] {
    let ranks = pair(world);
    world.runs("a", 1, ranks[0].seat);
    world.runs("b", 1, ranks[1].seat);
    world.disconnect("b", 1);
    let effects = world.pass(millis(500));
    assert!(stopped(&effects).is_empty() && assigned(&effects).is_empty());
    assert_eq!(teacher(world).phase, StagePhase::Queued);
    ranks
}

#[test]
fn a_link_that_is_lost_for_a_moment_costs_a_gang_nothing() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    world.disconnect("b", 1);
    world.pass(millis(400));
    let effects = world.connect_with("b", 2, 1, &[one.seat], &[]);
    assert!(stopped(&effects).is_empty() && assigned(&effects).is_empty());
    world.finish("a", 1, &zero);
    world.finish("b", 2, &one);
    assert_eq!(
        (teacher(&world).phase, teacher(&world).attempt),
        (StagePhase::Done, 1)
    );
    let counters = world.scheduler.counters();
    assert_eq!((counters.losses, counters.adopted), (0, 0));
}

#[test]
fn a_gang_whose_worker_was_away_for_longer_goes_on_once_it_is_back() {
    let mut world = World::new();
    let [zero, one] = parted(&mut world);
    world.pass(seconds(3));
    let effects = world.connect_with("b", 2, 1, &[one.seat], &[]);
    assert!(stopped(&effects).is_empty() && assigned(&effects).is_empty());
    assert!(world.scheduler.is_current(&worker("a"), zero.seat));
    assert!(world.scheduler.is_current(&worker("b"), one.seat));
    let counters = world.scheduler.counters();
    assert_eq!((counters.losses, counters.adopted), (0, 1));
    world.finish("b", 2, &one);
    world.finish("a", 1, &zero);
    assert_eq!(
        (teacher(&world).phase, teacher(&world).attempt),
        (StagePhase::Done, 1)
    );
}

#[test]
fn all_ranks_of_a_gang_may_be_away_and_come_back_one_by_one() {
    let mut world = World::new();
    let [zero, one] = parted(&mut world);
    world.disconnect("a", 1);
    world.pass(seconds(30));
    for (name, session, rank) in [("a", 2, &zero), ("b", 2, &one)] {
        assert_eq!(teacher(&world).phase, StagePhase::Queued);
        assert!(stopped(&world.connect_with(name, session, 1, &[rank.seat], &[])).is_empty());
    }
    assert_eq!(
        (teacher(&world).phase, teacher(&world).attempt),
        (StagePhase::Running, 1)
    );
}

#[test]
fn what_a_gang_says_while_it_is_apart_counts_once_it_is_whole() {
    let mut world = World::new();
    let [zero, one] = parted(&mut world);
    world.apply(Event::Meeting {
        worker: worker("a"),
        session: 1,
        seat: zero.seat,
        address: "10.0.0.1:1".parse().expect("an address"),
    });
    let checkpoint = Checkpoint {
        artifact: Artifact {
            digest: Digest::of(b"state"),
            bytes: 5,
        },
        epoch: 3,
        step: 30,
    };
    let effects = world.apply(Event::Checkpointed {
        worker: worker("a"),
        session: 1,
        seat: zero.seat,
        checkpoint,
    });
    assert!(
        !effects.iter().any(|effect| matches!(effect, Effect::Discard(_))),
        "{effects:?}"
    );
    assert_eq!(teacher(&world).checkpoint_epoch, Some(3));
    let effects = world.finish("a", 1, &zero);
    assert_eq!(acknowledged(&effects), [zero.seat]);
    assert_eq!(teacher(&world).phase, StagePhase::Queued);
    assert_eq!(acknowledged(&world.finish("a", 1, &zero)), [zero.seat], "again");

    let effects = world.connect_with("b", 2, 1, &[one.seat], &[]);
    let met = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Meet { seat, .. } if *seat == one.seat));
    assert!(met, "{effects:?}");
    world.finish("b", 2, &one);
    assert_eq!(teacher(&world).phase, StagePhase::Done);
    assert_eq!(teacher(&world).result.as_deref(), Some(&result(&zero)));
}

#[test]
fn the_others_are_stopped_when_another_attempt_starts() {
    let mut world = World::new();
    let [zero, one] = parted(&mut world);
    let effects = world.connect("c", 1, 2);
    assert_eq!(names(&effects), ["c", "c"]);
    assert_eq!(stopped(&effects), [zero.seat]);
    let effects = world.connect_with("b", 2, 1, &[one.seat], &[]);
    assert_eq!(stopped(&effects), [one.seat]);
    assert_eq!(world.scheduler.counters().adopted, 0);
}

#[test]
fn a_worker_that_is_back_without_its_rank_ends_the_attempt() {
    let mut world = World::new();
    world.connect("a", 1, 1);
    world.connect("b", 1, 2);
    let effects = world.submit(gang("x", "3"));
    assert_eq!(names(&effects), ["b", "b", "a"]);
    let ranks: Vec<Order> = assigned(&effects).into_iter().map(|(_, order)| order).collect();
    world.disconnect("b", 1);
    world.pass(millis(500));
    let effects = world.connect_with("b", 2, 2, &[ranks[1].seat], &[]);
    assert_eq!(stopped(&effects), [ranks[1].seat, ranks[2].seat]);
    world.fail("b", 2, ranks[1].seat, FailureClass::Lost);
    world.fail("a", 1, ranks[2].seat, FailureClass::Lost);
    world.pass(seconds(1));
    assert_eq!(
        (teacher(&world).phase, teacher(&world).attempt),
        (StagePhase::Running, 2)
    );
}

#[test]
fn a_rank_that_says_why_ends_the_attempt_by_that() {
    let mut world = World::new();
    let [zero, one] = parted(&mut world);
    assert_eq!(world.scheduler.counters().losses, 1);
    world.fail("a", 1, zero.seat, FailureClass::Resources);
    assert_eq!(teacher(&world).reason, "retry 2 of 3 in 1 s after: it broke");
    let counters = world.scheduler.counters();
    assert_eq!((counters.losses, counters.faults), (0, 1));
    assert_eq!(
        stopped(&world.connect_with("b", 2, 1, &[one.seat], &[])),
        [one.seat]
    );
}

#[test]
fn a_gang_that_is_apart_is_stopped_when_nobody_asks_for_it() {
    let mut world = World::new();
    let [zero, one] = parted(&mut world);
    assert_eq!(stopped(&world.cancel("x")), [zero.seat]);
    assert_eq!(world.job("x").phase, JobPhase::Cancelled);
    assert_eq!(
        stopped(&world.connect_with("b", 2, 1, &[one.seat], &[])),
        [one.seat]
    );
    for (name, session, rank) in [("a", 1, zero), ("b", 2, one)] {
        world.fail(name, session, rank.seat, FailureClass::Lost);
    }
    assert_eq!(world.worker("a").slots_used + world.worker("b").slots_used, 0);
}

#[test]
fn a_gang_that_nobody_asks_for_is_not_waited_for_after_a_restart() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    world.cancel("x");
    world.restart();
    let effects = world.connect_with("a", 2, 1, &[zero.seat], &[]);
    assert_eq!(stopped(&effects), [zero.seat]);
    world.disconnect("a", 2);
    world.pass(seconds(1));
    let effects = world.connect_with("b", 2, 1, &[one.seat], &[]);
    assert_eq!(stopped(&effects), [one.seat]);
    assert_eq!(world.scheduler.counters().adopted, 0);
}

#[test]
fn the_ranks_that_go_on_do_not_hold_their_slots_for_ever() {
    let mut world = World::new();
    let [zero, _] = parted(&mut world);
    let mut told = Vec::new();
    for second in 1..=20 {
        world.heartbeat("a", 1);
        let effects = world.pass(seconds(1));
        told.extend(stopped(&effects).into_iter().map(|seat| (second, seat)));
    }
    assert_eq!(told, [(20, zero.seat)]);
}
