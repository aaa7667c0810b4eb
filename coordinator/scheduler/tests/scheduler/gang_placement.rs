//! Which slots an attempt of several ranks gets.

use nettailor_domain::ids::Digest;
use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::testing::{task, wide};
use nettailor_scheduler::view::JobPhase;

use crate::gangs::{gang, names, orders, teacher};
use crate::world::{World, assigned, offer, seconds};

#[test]
fn a_gang_is_placed_once_there_are_slots_for_all_its_ranks() {
    let mut world = World::new();
    world.submit(gang("x", "3"));
    assert!(assigned(&world.connect("a", 1, 2)).is_empty());
    assert_eq!(teacher(&world).reason, "needs 3 slots; 2 connected");
    assert_eq!(world.job("x").reason, "teacher needs 3 slots; 2 connected");
    let effects = world.connect("b", 1, 2);
    assert_eq!(names(&effects), ["a", "a", "b"]);
    let seats: Vec<(u32, u32)> = orders(&effects)
        .iter()
        .map(|order| (order.seat.rank, order.world_size))
        .collect();
    assert_eq!(seats, [(0, 3), (1, 3), (2, 3)]);
    let view = teacher(&world);
    assert_eq!(view.reason, "runs on a x2, b since 22:13:20 UTC");
    assert_eq!((view.workers.len(), view.world_size, view.attempt), (3, 3, 1));
    assert_eq!(world.scheduler.counters().assigned, 1);
    assert_eq!(world.worker("a").slots_used, 2);
    let running = world.worker("a").running;
    assert_eq!(running[1].description, "digits: teacher, attempt 1, rank 1");
}

#[test]
fn a_range_takes_what_is_free_up_to_its_most() {
    for (slots, width) in [(1, 0), (2, 2), (3, 3), (4, 4), (9, 4)] {
        let mut world = World::new();
        world.connect("a", 1, slots);
        assert_eq!(assigned(&world.submit(gang("x", "2..4"))).len(), width, "{slots}");
    }
}

#[test]
fn ranks_of_a_gang_are_on_workers_of_one_device() {
    let mut world = World::new();
    world.submit(gang("x", "2..3"));
    assert!(assigned(&world.connect("a", 1, 1)).is_empty());
    assert!(assigned(&world.offers("gpu-1", 1, offer(1, "cuda"))).is_empty());
    assert_eq!(
        teacher(&world).reason,
        "needs 2 slots on workers of one device; 1 connected"
    );
    let effects = world.offers("gpu-2", 1, offer(1, "cuda"));
    assert_eq!(names(&effects), ["gpu-1", "gpu-2"]);
    // Who needs one slot does not mind.
    let mut narrow = task("y", "other");
    narrow.task.seed = 7;
    assert_eq!(names(&world.submit(narrow)), ["a"]);
}

#[test]
fn few_workers_are_preferred_then_those_that_hold_the_inputs() {
    let mut world = World::new();
    let cached = [Digest::of(b"backbone")];
    world.connect("a", 1, 1);
    world.connect_with("b", 1, 1, &[], &cached);
    world.connect("c", 1, 2);
    world.connect_with("d", 1, 3, &[], &cached);
    world.connect("e", 1, 3);
    let mut place = |job: &str, seed, workers| {
        let mut submission = gang(job, workers);
        submission.task.seed = seed;
        names(&world.submit(submission))
    };
    assert_eq!(place("p", 1, "3"), ["d", "d", "d"]);
    assert_eq!(place("q", 2, "4"), ["e", "e", "e", "b"]);
    assert_eq!(place("r", 3, "3"), ["c", "c", "a"]);
}

#[test]
fn a_stage_that_failed_on_a_worker_goes_elsewhere_if_the_others_are_enough() {
    let mut world = World::new();
    world.connect("a", 1, 2);
    world.connect("b", 1, 2);
    let effects = world.submit(gang("x", "2..3"));
    assert_eq!(names(&effects), ["a", "a", "b"]);
    let ranks = orders(&effects);
    world.fail("a", 1, ranks[1].seat, FailureClass::Resources);
    world.fail("a", 1, ranks[0].seat, FailureClass::Lost);
    world.fail("b", 1, ranks[2].seat, FailureClass::Lost);
    assert_eq!(names(&world.pass(seconds(1))), ["b", "b"]);

    // One of the four is taken: without `a` there are too few.
    let mut world = World::new();
    world.connect("a", 1, 2);
    world.connect("b", 1, 1);
    let ranks = orders(&world.submit(gang("x", "2")));
    world.fail("a", 1, ranks[0].seat, FailureClass::Resources);
    world.fail("a", 1, ranks[1].seat, FailureClass::Lost);
    assert_eq!(names(&world.pass(seconds(1))), ["a", "a"]);
}

#[test]
fn stages_that_train_have_the_width_and_the_choice_has_one_rank() {
    let mut world = World::new();
    world.connect("a", 1, 2);
    let mut effects = world.submit(gang("x", "2"));
    let mut widths = Vec::new();
    while let [(name, order), ..] = &assigned(&effects)[..] {
        widths.push((order.spec.kind(), order.world_size));
        let mut all = orders(&effects);
        let last = all.pop().expect("a rank");
        for order in all {
            assert!(assigned(&world.finish(name.as_str(), 1, &order)).is_empty());
        }
        effects = world.finish(name.as_str(), 1, &last);
    }
    let training = [
        StageKind::Teacher,
        StageKind::Student,
        StageKind::Candidate(2),
        StageKind::Candidate(4),
    ];
    let expected = training.map(|kind| (kind, 2)).into_iter();
    assert_eq!(
        widths,
        expected.chain([(StageKind::Select, 1)]).collect::<Vec<_>>()
    );
    assert_eq!(world.job("x").phase, JobPhase::Succeeded);
}

#[test]
fn a_stage_that_jobs_share_takes_from_the_fewest_to_the_most_that_one_of_them_asks_for() {
    let mut world = World::new();
    world.submit(gang("x", "4"));
    world.submit(wide(task("y", "numbers"), "6"));
    assert!(assigned(&world.connect("a", 1, 3)).is_empty());
    assert_eq!(teacher(&world).reason, "needs 4 slots; 3 connected");
    assert_eq!(assigned(&world.submit(gang("z", "2"))).len(), 3);

    let mut world = World::new();
    for (job, workers) in [("x", "4"), ("y", "2"), ("z", "2")] {
        world.submit(gang(job, workers));
    }
    world.cancel("y");
    world.cancel("z");
    assert!(assigned(&world.connect("a", 1, 3)).is_empty(), "x is left");
}
