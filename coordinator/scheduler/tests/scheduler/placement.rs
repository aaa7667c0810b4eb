//! Who runs what.

use nettailor_domain::ids::Digest;
use nettailor_scheduler::event::Submission;
use nettailor_scheduler::testing::{result, task};

use crate::world::{World, assigned, only};

/// A task that shares no stage with the others.
fn apart(job: &str, seed: u64) -> Submission {
    let mut submission = task(job, job);
    submission.task.seed = seed;
    submission
}

fn names(effects: &[nettailor_scheduler::effect::Effect]) -> Vec<(String, String)> {
    assigned(effects)
        .into_iter()
        .map(|(worker, order)| (worker.to_string(), order.description))
        .collect()
}

#[test]
fn jobs_are_served_in_the_order_of_submission() {
    let mut world = World::new();
    for (job, seed) in [("c", 1), ("a", 2), ("b", 3)] {
        world.submit(apart(job, seed));
    }
    let effects = world.connect("w", 1, 2);
    let order: Vec<_> = names(&effects).into_iter().map(|(_, what)| what).collect();
    assert_eq!(order, ["c: teacher", "a: teacher"]);
    // The first job's next stage comes before the third job's first.
    let first = assigned(&effects).remove(0).1;
    assert_eq!(only(&world.finish("w", 1, &first)).description, "c: student");
}

#[test]
fn a_shared_stage_keeps_the_place_of_the_earliest_job_that_still_lives() {
    let mut world = World::new();
    world.submit(apart("a", 1));
    world.submit(apart("b", 2));
    let mut late = apart("c", 1);
    late.task.name = "c".parse().expect("a name");
    world.submit(late);
    world.cancel("a");
    let order: Vec<_> = names(&world.connect("w", 1, 2))
        .into_iter()
        .map(|(_, what)| what)
        .collect();
    assert_eq!(order, ["b: teacher", "c: teacher"]);
}

#[test]
fn the_worker_that_holds_most_of_the_inputs_is_preferred_then_free_slots_then_names() {
    let mut world = World::new();
    world.connect("a", 1, 1);
    world.connect_with("b", 1, 1, &[], &[Digest::of(b"data")]);
    world.connect_with("c", 1, 1, &[], &[Digest::of(b"backbone")]);
    world.connect("d", 1, 3);
    let placed: Vec<_> = (1..=6)
        .map(|n| names(&world.submit(apart(&format!("j{n}"), n))).remove(0).0)
        .collect();
    assert_eq!(placed, ["c", "b", "d", "d", "a", "d"]);
}

#[test]
fn a_worker_is_remembered_to_hold_what_its_attempts_read_and_wrote() {
    let mut world = World::new();
    world.connect("a", 1, 1);
    let teacher = only(&world.submit(task("x", "digits")));
    world.connect("b", 1, 4);
    let (name, student) = assigned(&world.finish("a", 1, &teacher)).remove(0);
    assert_eq!(name.as_str(), "a");
    assert_eq!(world.worker("a").cached_blobs, 3);
    world.finish_with("a", 1, student.seat, result(&student));
    assert_eq!(world.worker("a").cached_blobs, 4);
}
