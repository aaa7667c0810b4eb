//! Workers that are silent or away, and a coordinator that does not listen.

use nettailor_domain::ids::WorkerId;
use nettailor_domain::stage::StageKind;
use nettailor_scheduler::event::Event;
use nettailor_scheduler::testing::task;
use nettailor_scheduler::view::{StagePhase, WorkerPhase};

use crate::world::{World, assigned, closed, millis, only, seconds, stopped, worker};

/// Workers that were assigned something, with the attempt's number.
fn placed(effects: &[nettailor_scheduler::effect::Effect]) -> Vec<(String, u32)> {
    let name = |worker: WorkerId| worker.to_string();
    let assigned = assigned(effects).into_iter();
    assigned
        .map(|(worker, order)| (name(worker), order.seat.attempt.number))
        .collect()
}

/// Lets seconds pass of which these workers, in session 1, are heard in each.
fn pass_with(world: &mut World, number: u64, names: &[&str]) -> Vec<nettailor_scheduler::effect::Effect> {
    let mut effects = Vec::new();
    for _ in 0..number {
        for name in names {
            effects.extend(world.heartbeat(name, 1));
        }
        effects.extend(world.pass(seconds(1)));
    }
    effects
}

#[test]
fn a_broken_stream_moves_the_attempt_once_the_time_to_reattach_is_over() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.runs("w", 1, teacher.seat);
    world.connect("v", 1, 1);
    world.disconnect("w", 1);
    assert!(assigned(&world.pass(millis(499))).is_empty());
    let moved = world.pass(millis(1));
    assert_eq!(placed(&moved), [("v".to_owned(), 2)], "without another wait");
    assert_eq!(world.scheduler.counters().losses, 1);
    // Whoever loses it again waits.
    world.runs("v", 1, only(&moved).seat);
    world.connect("u", 1, 1);
    pass_with(&mut world, 6, &["u", "v"]);
    world.disconnect("v", 1);
    assert!(assigned(&pass_with(&mut world, 1, &["u"])).is_empty());
    assert_eq!(placed(&world.pass(millis(500))), [("u".to_owned(), 3)]);
}

#[test]
fn a_silent_worker_is_disconnected_and_its_attempts_move_within_five_seconds() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.pass(seconds(3));
    world.heartbeat("w", 1);
    assert!(closed(&world.pass(seconds(3))).is_empty());
    world.connect("v", 1, 1);
    assert_eq!(closed(&world.pass(seconds(1))), [1]);
    assert_eq!(world.worker("w").phase, WorkerPhase::Disconnected);
    assert_eq!(placed(&world.pass(seconds(1))), [("v".to_owned(), 2)]);
    // The late report of the first comes from a session that is over.
    assert!(world.finish("w", 1, &teacher).is_empty());
}

#[test]
fn a_coordinator_that_did_not_listen_loses_nobody() {
    let mut world = World::new();
    for name in ["u", "v", "w"] {
        world.connect(name, 1, 1);
    }
    let teacher = only(&world.submit(task("a", "digits"))).seat;
    world.runs("u", 1, teacher);
    world.stall(seconds(600));
    // One of them is heard before the timers are looked at, the others are still in the queue.
    world.heartbeat("w", 1);
    let effects = world.apply(Event::Tick);
    assert!(effects.is_empty(), "{effects:?}");
    pass_with(&mut world, 10, &["u", "v", "w"]);
    let phases: Vec<WorkerPhase> = world.scheduler.workers().map(|view| view.phase).collect();
    assert_eq!(phases, [WorkerPhase::Ready; 3]);
    assert!(world.scheduler.is_current(&worker("u"), teacher));
    // Many short ones are no different.
    for _ in 0..20 {
        world.stall(millis(900));
        assert!(closed(&world.apply(Event::Tick)).is_empty());
        for name in ["u", "v", "w"] {
            world.heartbeat(name, 1);
        }
    }
}

#[test]
fn silence_counts_while_the_coordinator_listens_however_slowly() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    // Sixteen times the quarter of a second that it listened.
    for _ in 0..15 {
        world.stall(seconds(2));
        assert!(closed(&world.apply(Event::Tick)).is_empty());
    }
    world.stall(seconds(2));
    assert_eq!(closed(&world.apply(Event::Tick)), [1]);
}

#[test]
fn streams_that_break_after_a_stall_are_waited_for_as_after_a_restart() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits"))).seat;
    world.runs("w", 1, teacher);
    world.connect("v", 1, 1);
    world.stall(seconds(8));
    world.disconnect("w", 1);
    assert!(
        world
            .stage("a", StageKind::Teacher)
            .reason
            .ends_with("for another 20 s")
    );
    assert!(assigned(&pass_with(&mut world, 19, &["v"])).is_empty());
    // It is nobody's loss if it does not come back.
    assert_eq!(placed(&pass_with(&mut world, 1, &["v"])), [("v".to_owned(), 2)]);
    let counters = world.scheduler.counters();
    assert_eq!((counters.losses, counters.returns), (0, 1));

    // Some time after it, they break by themselves.
    world.connect("w", 2, 1);
    world.disconnect("v", 1);
    assert_eq!(placed(&world.pass(millis(1600))), [("w".to_owned(), 3)]);
}

#[test]
fn most_of_the_workers_at_once_are_waited_for_as_after_a_restart() {
    let mut world = World::new();
    let names = ["u", "v", "w"];
    let mut seats = Vec::new();
    for (seed, name) in (0..).zip(names) {
        world.connect(name, 1, 1);
        let mut submission = task(&format!("job-{name}"), "digits");
        submission.task.seed = seed;
        let seat = only(&world.submit(submission)).seat;
        world.runs(name, 1, seat);
        seats.push(seat);
    }
    // The first is lost before the second shows what it is.
    world.disconnect("u", 1);
    pass_with(&mut world, 3, &["v", "w"]);
    assert_eq!(world.scheduler.counters().losses, 1);
    world.disconnect("v", 1);
    assert_eq!(world.scheduler.counters().losses, 0);
    assert!(world.worker("v").reason.ends_with("for another 20 s"));
    pass_with(&mut world, 19, &["w"]);
    assert_eq!(
        world.stage("job-v", StageKind::Teacher).phase,
        StagePhase::Running
    );
    let effects = world.connect_with("v", 2, 1, &[seats[1]], &[]);
    assert!(stopped(&effects).is_empty());
    assert!(world.scheduler.is_current(&worker("v"), seats[1]));
    // The first finds its attempt where it was.
    world.connect_with("u", 2, 1, &[seats[0]], &[]);
    assert!(world.scheduler.is_current(&worker("u"), seats[0]));
    let counters = world.scheduler.counters();
    assert_eq!((counters.losses, counters.returns, counters.assigned), (0, 0, 3));
}

#[test]
fn silence_of_most_of_the_workers_costs_none_of_them_its_attempt() {
    let mut world = World::new();
    for name in ["u", "v", "w"] {
        world.connect(name, 1, 1);
        // Heard at different moments before the network goes.
        world.pass(millis(300));
    }
    let seat = only(&world.submit(task("a", "digits"))).seat;
    world.runs("u", 1, seat);
    world.pass(seconds(12));
    let phases: Vec<WorkerPhase> = world.scheduler.workers().map(|view| view.phase).collect();
    assert_eq!(phases, [WorkerPhase::Disconnected; 3]);
    assert!(world.scheduler.is_current(&worker("u"), seat));
}

#[test]
fn one_of_two_is_not_most_and_nor_are_those_that_said_they_go() {
    let mut world = World::new();
    for name in ["u", "v", "w"] {
        world.connect(name, 1, 1);
    }
    let seat = only(&world.submit(task("a", "digits"))).seat;
    world.runs("u", 1, seat);
    for name in ["v", "w"] {
        world.apply(Event::WorkerDraining {
            worker: worker(name),
            session: 1,
        });
        world.disconnect(name, 1);
    }
    world.disconnect("u", 1);
    world.pass(millis(500));
    assert_eq!(world.scheduler.workers().count(), 0);
    assert_eq!(world.scheduler.counters().losses, 1);
}

#[test]
fn a_clock_that_jumps_changes_what_is_shown_and_nothing_else() {
    let history = |jumps: &[u64]| {
        let mut world = World::new();
        let mut jumps = jumps.iter().cycle();
        let mut effects = Vec::new();
        world.connect("w", 1, 1);
        effects.extend(world.submit(task("a", "digits")));
        let teacher = only(&effects);
        for _ in 0..10 {
            world.now.wall_ms = jumps.next().copied().unwrap_or(0);
            effects.extend(world.heartbeat("w", 1));
            effects.extend(world.pass(seconds(3)));
        }
        world.now.wall_ms = jumps.next().copied().unwrap_or(0);
        effects.extend(world.fail(
            "w",
            1,
            teacher.seat,
            nettailor_domain::trainer::FailureClass::Resources,
        ));
        effects.extend(world.pass(seconds(3)));
        effects.extend(world.pass(seconds(20)));
        (effects, world.scheduler.counters(), world.scheduler.next_wakeup())
    };
    let still = history(&[1_700_000_000_000]);
    assert_eq!(still.1.assigned, 2, "it was retried");
    assert_eq!(history(&[0, u64::MAX / 2, 1, 4_000_000_000_000]), still);
}
