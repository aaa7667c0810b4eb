//! Who makes room for whom, and what is kept for whom.

use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::testing::wide;
use nettailor_scheduler::view::StagePhase;

use crate::policy::{apart, of, set_user};
use crate::world::{LOST, World, assigned, offer, only, stopped, worker};

#[test]
fn a_guarantee_is_reclaimed_after_a_checkpoint_and_no_further_than_that() {
    let mut world = World::new();
    set_user(&mut world, "bob", 1, None, 1);
    world.connect("w", 1, 2);
    let mut orders = Vec::new();
    for id in ["a1", "a2"] {
        orders.extend(
            assigned(&world.submit(of("alice", id)))
                .into_iter()
                .map(|(_, order)| order),
        );
    }
    world.submit(of("bob", "b1"));
    world.submit(of("bob", "b2"));
    assert!(
        stopped(&world.live(&[("w", 1)], 70)).is_empty(),
        "nothing has left a checkpoint"
    );
    // The first that has something to go on from makes room, at its next checkpoint.
    assert!(stopped(&world.checkpoint("w", 1, orders[0].seat, 1)).is_empty());
    world.live(&[("w", 1)], 2);
    world.checkpoint("w", 1, orders[1].seat, 1);
    world.live(&[("w", 1)], 70);
    let mut stops = stopped(&world.checkpoint("w", 1, orders[0].seat, 2));
    stops.extend(stopped(&world.checkpoint("w", 1, orders[1].seat, 2)));
    assert_eq!(stops, [orders[0].seat], "one slot is guaranteed, one is taken");
    let given = only(&world.fail("w", 1, orders[0].seat, FailureClass::Lost));
    assert_eq!(given.description, "b1: teacher");
    // Bob has what is guaranteed; for more nobody makes room, and alice does not take it back.
    let mut more = Vec::new();
    for round in 1..4 {
        more.extend(world.live(&[("w", 1)], 100));
        more.extend(world.checkpoint("w", 1, orders[1].seat, 2 + round));
        more.extend(world.checkpoint("w", 1, given.seat, round));
    }
    assert!(stopped(&more).is_empty());
    let counters = world.scheduler.counters();
    assert_eq!(
        (counters.faults, counters.losses),
        (0, 0),
        "making room is neither"
    );
}

#[test]
fn an_urgent_job_takes_the_slot_of_a_lesser_one_of_the_same_user_only() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let lesser = only(&world.submit(of("alice", "a")));
    let mut urgent = of("bob", "b");
    urgent.priority = Some(100);
    world.submit(urgent);
    world.checkpoint("w", 1, lesser.seat, 1);
    world.live(&[("w", 1)], 130);
    assert!(
        stopped(&world.checkpoint("w", 1, lesser.seat, 2)).is_empty(),
        "priority does not reach across users"
    );
    let mut own = of("alice", "c");
    own.priority = Some(1);
    world.submit(own);
    world.live(&[("w", 1)], 70);
    let effects = world.checkpoint("w", 1, lesser.seat, 3);
    assert_eq!(stopped(&effects), [lesser.seat]);
    let given = only(&world.fail("w", 1, lesser.seat, FailureClass::Lost));
    assert_eq!(
        given.description, "c: teacher",
        "bob waits, and it was not freed for him"
    );
}

#[test]
fn slots_that_are_freed_for_a_gang_are_not_given_back_one_by_one() {
    let mut world = World::new();
    world.connect("w", 1, 2);
    let mut orders = Vec::new();
    for id in ["a", "b"] {
        orders.push(only(&world.submit(of("alice", id))));
    }
    let mut urgent = wide(of("alice", "c"), "2");
    urgent.priority = Some(9);
    world.submit(urgent);
    for order in &orders {
        world.checkpoint("w", 1, order.seat, 1);
    }
    world.live(&[("w", 1)], 65);
    let first = world.checkpoint("w", 1, orders[0].seat, 2);
    assert_eq!(stopped(&first), [orders[0].seat]);
    assert!(assigned(&world.fail("w", 1, orders[0].seat, FailureClass::Lost)).is_empty());
    let second = world.checkpoint("w", 1, orders[1].seat, 2);
    assert_eq!(stopped(&second), [orders[1].seat]);
    let given = assigned(&world.fail("w", 1, orders[1].seat, FailureClass::Lost));
    assert_eq!(given.len(), 2, "the gang starts");
}

#[test]
fn slots_kept_for_a_gang_with_labels_are_not_taken_by_who_could_run_elsewhere() {
    let mut world = World::new();
    let labels = || [("gpu".to_owned(), "h100".to_owned())].into_iter().collect();
    let mut fast = offer(2, "cuda");
    fast.labels = labels();
    world.offers("fast", 1, fast);
    let picky = |id: &str, workers: &str| {
        let mut task = wide(apart(id), workers);
        task.task.resources.labels = labels();
        task
    };
    let first = only(&world.submit(picky("a", "1")));
    world.submit(picky("b", "2"));
    world.submit(picky("c", "1"));
    world.live(&[("fast", 1)], 65);
    world.finish("fast", 1, &first);
    // One slot is free there, kept for b's two; a worker without labels has one, too.
    world.connect("slow", 2, 1);
    let effects = world.submit(apart("d"));
    assert_eq!(assigned(&effects)[0].0, worker("slow"));
    assert!(assigned(&world.submit(apart("e"))).is_empty());
}

#[test]
fn a_gang_within_its_users_limit_is_not_passed_over_for_ever() {
    let mut world = World::new();
    set_user(&mut world, "alice", 1, Some(2), 0);
    world.connect("w", 1, 4);
    let mut open = vec![only(&world.submit(of("alice", "a")))];
    world.submit(wide(of("alice", "gang"), "2"));
    for number in 0..40 {
        let effects = world.submit(of("alice", &format!("s{number}")));
        open.extend(assigned(&effects).into_iter().map(|(_, order)| order));
        let effects = world.live(&[("w", 1)], 10);
        open.extend(assigned(&effects).into_iter().map(|(_, order)| order));
        if open.iter().any(|order| order.world_size == 2) {
            break;
        }
        let first = open.remove(0);
        let effects = world.finish("w", 1, &first);
        open.extend(assigned(&effects).into_iter().map(|(_, order)| order));
    }
    let gang = world.stage("gang", StageKind::Teacher);
    assert_eq!(gang.phase, StagePhase::Running, "{}", gang.reason);
}

#[test]
fn a_worker_that_is_lost_with_all_it_ran_has_gone_once() {
    let mut world = World::new();
    for id in ["a", "b", "c", "d"] {
        world.submit(apart(id));
    }
    let orders = assigned(&world.connect("w", 1, 4));
    for (_, order) in &orders {
        world.runs("w", 1, order.seat);
    }
    world.disconnect("w", 1);
    world.pass(LOST);
    let again = assigned(&world.connect("w", 2, 4));
    assert_eq!(again.len(), 4, "it is not set aside");
}
