//! Explanations of constructed situations: they read like an answer.

use nettailor_domain::explain::Explanation;
use nettailor_domain::ids::StageKey;
use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::event::Event;
use nettailor_scheduler::testing::wide;

use crate::policy::{apart, of, set_user};
use crate::world::{LOST, World, job, offer, only, seconds, worker};

/// An explanation as a text; times are those of the test's own clock, which begins at 22:13:20.
fn text((explanation, _): (Explanation, Option<StageKey>)) -> String {
    let Explanation {
        subject,
        state,
        reason,
        position,
        eta,
        action,
        ..
    } = explanation;
    let mut lines = vec![format!("{subject} is {state}. {reason}")];
    if let Some(place) = position {
        lines.push(format!(
            "place {} of {} of {}, user {} of {}",
            place.own, place.own_of, place.name, place.user, place.users
        ));
    }
    if let Some(eta) = eta {
        let at = eta
            .at_ms
            .map(|ms| format!("in {} s, ", (ms - 1_700_000_000_000) / 1000));
        lines.push(format!("eta: {}{}", at.unwrap_or_default(), eta.basis));
    }
    if !action.is_empty() {
        lines.push(format!("to do: {action}"));
    }
    lines.join("\n")
}

fn job_text(world: &World, id: &str) -> String {
    text(world.scheduler.explain_job(&job(id), None).expect("it is there"))
}

fn worker_text(world: &World, name: &str) -> String {
    let explained = world.scheduler.explain_worker(&worker(name));
    text((explained.expect("it is there"), None))
}

#[test]
fn no_worker() {
    let mut world = World::new();
    world.submit(apart("a"));
    assert_eq!(
        job_text(&world, "a"),
        "teacher of job a is queued. No worker is connected.\n\
         place 1 of 1 of default, user 1 of 1\n\
         to do: start a worker: nettailor-worker --coordinator URL"
    );
}

#[test]
fn too_few_slots_with_a_label() {
    let mut world = World::new();
    let mut picky = wide(apart("a"), "2");
    picky.task.resources.labels = [("gpu".to_owned(), "h100".to_owned())].into_iter().collect();
    world.submit(picky);
    let mut labelled = offer(1, "cuda");
    labelled.labels = [("gpu".to_owned(), "h100".to_owned())].into_iter().collect();
    world.offers("fast", 1, labelled);
    world.connect("plain", 2, 8);
    assert_eq!(
        job_text(&world, "a"),
        "teacher of job a is queued. It needs 2 slots with label gpu=h100; 1 slot is connected, on workers of one device.\n\
         place 1 of 1 of default, user 1 of 1\n\
         to do: start a worker with --label gpu=h100"
    );
}

#[test]
fn slots_are_held_by_a_named_job_until_about_a_time() {
    let mut world = World::new();
    world.connect("w", 1, 2);
    let order = only(&world.submit(apart("a")));
    world.submit(wide(apart("b"), "2"));
    world.apply(Event::Pace {
        worker: worker("w"),
        session: 1,
        seat: order.seat,
        left: seconds(600),
    });
    assert_eq!(
        job_text(&world, "b"),
        "teacher of job b is queued. It needs 2 slots; 1 free of 2 connected. \
         Held: 1 by a: teacher (job a) until about 22:23:20 UTC.\n\
         place 1 of 1 of default, user 1 of 1\n\
         eta: in 600 s, when those are expected to end that hold the slots\n\
         to do: start another worker, or raise the job's priority: nettailor-cli jobs set"
    );
    assert_eq!(
        job_text(&world, "a"),
        "teacher of job a is running. It runs on w since 22:13:20 UTC.\n\
         eta: in 600 s, as its trainer says, from its pace"
    );
}

#[test]
fn free_slots_are_kept_for_a_gang() {
    let mut world = World::new();
    world.connect("w", 1, 2);
    world.submit(apart("a"));
    world.submit(wide(apart("b"), "2"));
    let passes = only(&world.submit(apart("c")));
    world.live(&[("w", 1)], 65);
    // The slot that becomes free is kept for the gang: the student of c waits, though it would fit.
    world.finish("w", 1, &passes);
    assert_eq!(
        job_text(&world, "c"),
        "student of job c is queued. Slots are free, and kept for b: teacher, which needs more of them and was passed over long enough.\n\
         place 2 of 2 of default, user 1 of 1\n\
         to do: start another worker"
    );
}

#[test]
fn the_users_limit() {
    let mut world = World::new();
    set_user(&mut world, "alice", 1, Some(1), 0);
    world.connect("w", 1, 4);
    world.submit(of("alice", "a"));
    world.submit(of("alice", "b"));
    assert_eq!(
        job_text(&world, "b"),
        "teacher of job b is queued. alice has 1 of at most 1 slot; this needs 1 more.\n\
         place 1 of 1 of alice, user 1 of 1\n\
         to do: raise the limit: nettailor-cli users set alice --limit N"
    );
}

#[test]
fn not_its_turn() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    world.submit(of("alice", "a"));
    world.submit(of("alice", "b"));
    world.submit(of("bob", "c"));
    world.submit(of("alice", "d"));
    assert_eq!(
        job_text(&world, "d"),
        "teacher of job d is queued. It needs 1 slot; 0 free of 1 connected. \
         Held: 1 by a: teacher (job a) for a time that is not known yet.\n\
         place 2 of 2 of alice, user 2 of 2\n\
         eta: stages before it go first, and how long they take is not known\n\
         to do: start another worker, or raise the job's priority: nettailor-cli jobs set"
    );
}

#[test]
fn waiting_before_a_retry() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let order = only(&world.submit(apart("a")));
    world.fail("w", 1, order.seat, FailureClass::Resources);
    assert_eq!(
        job_text(&world, "a"),
        "teacher of job a is queued. It is tried again at 22:13:21 UTC, after it failed (resources): it broke\n\
         to do: look at what it wrote: nettailor-cli jobs logs a"
    );
}

#[test]
fn set_aside_for_what_it_does_to_workers() {
    let mut world = World::new();
    world.submit(apart("a"));
    for (session, name) in (1..).zip(["u", "v", "w"]) {
        let seat = only(&world.connect(name, session, 1)).seat;
        world.runs(name, session, seat);
        world.disconnect(name, session);
        world.pass(LOST);
    }
    let found = job_text(&world, "a");
    assert!(
        found.starts_with("teacher of job a is queued. It lost 3 workers in a row and may be what ends them: it is left alone until 22:14:"),
        "{found}"
    );
    assert!(
        found.ends_with("to do: look at what it wrote: nettailor-cli jobs logs a"),
        "{found}"
    );
}

#[test]
fn paused() {
    let mut world = World::new();
    world.submit(apart("a"));
    world.apply(Event::Pause {
        job: job("a"),
        reason: "the data change".into(),
        time: seconds(600),
    });
    assert_eq!(
        job_text(&world, "a"),
        "job a is paused. Paused for 600 s more: the data change.\n\
         to do: resume it: nettailor-cli jobs resume a"
    );
}

#[test]
fn a_worker_that_is_not_heard_of() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    only(&world.submit(apart("a")));
    world.disconnect("w", 1);
    let found = job_text(&world, "a");
    assert!(
        found.starts_with("teacher of job a is running. w is not heard of. What it ran may go on: it is waited for until 22:13:"),
        "{found}"
    );
    assert!(
        found.ends_with("to do: look at w: is it up, and is the network?"),
        "{found}"
    );
    let found = worker_text(&world, "w");
    assert!(
        found.starts_with("worker w is disconnected. w is not heard of."),
        "{found}"
    );
}

#[test]
fn waiting_for_parents() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    world.submit(apart("a"));
    let explained = world.scheduler.explain_job(&job("a"), Some(StageKind::Select));
    assert_eq!(
        text(explained.expect("it is there")),
        "select of job a is waiting. It waits for teacher, candidate(2), candidate(4)."
    );
}

#[test]
fn what_is_over() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let effects = world.submit(apart("a"));
    world.run(effects);
    assert_eq!(
        job_text(&world, "a"),
        "job a is succeeded. Published as a version 1.\nto do: look at it: nettailor-cli registry get a"
    );
}

#[test]
fn a_worker_out_of_use() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    world.apply(Event::Cordon {
        worker: worker("w"),
        reason: "new memory".into(),
        drain: false,
    });
    assert_eq!(
        worker_text(&world, "w"),
        "worker w is cordoned. It was cordoned: new memory. It gets no new work; 0 ranks left.\n\
         to do: take it back into use: nettailor-cli workers uncordon w"
    );
}

#[test]
fn a_worker_that_broke_stages() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    for id in ["a", "b", "c"] {
        world.submit(apart(id));
    }
    for _ in 0..3 {
        let seat = world.worker("w").running[0].seat;
        world.fail("w", 1, seat, FailureClass::Resources);
    }
    let found = worker_text(&world, "w");
    let expected = "worker w is set aside. 3 stages broke on it one after the other: it is left alone until 22:23:20 UTC, then it is tried with one.";
    assert!(found.starts_with(expected), "{found}");
}
