//! Who goes first, who makes room, and what people can do about it.

use std::time::Duration;

use nettailor_domain::ids::{Digest, UserName};
use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::Rejected;
use nettailor_scheduler::event::{Event, Submission};
use nettailor_scheduler::record::UserRecord;
use nettailor_scheduler::testing::{task, wide};
use nettailor_scheduler::view::{JobPhase, StagePhase, WorkerPhase};

use crate::world::{LOST, World, assigned, job, offer, only, seconds, stopped, worker};

pub(crate) fn user(name: &str) -> UserName {
    name.parse().expect("a name")
}

/// A task on a data set of its own.
pub(crate) fn apart(id: &str) -> Submission {
    let mut submission = task(id, id);
    submission.inputs.data.archive = Digest::of(id.as_bytes());
    submission
}

/// Such a task of somebody's.
pub(crate) fn of(who: &str, id: &str) -> Submission {
    let mut submission = apart(id);
    submission.user = user(who);
    submission
}

pub(crate) fn set_user(world: &mut World, name: &str, weight: u32, limit: Option<u32>, guarantee: u32) {
    world.apply(Event::SetUser(UserRecord {
        name: user(name),
        weight,
        limit,
        guarantee,
    }));
}

fn running(world: &World, ids: &[&str]) -> Vec<bool> {
    let runs = |id: &&str| world.stage(id, StageKind::Teacher).phase == StagePhase::Running;
    ids.iter().map(runs).collect()
}

#[test]
fn users_share_slots_whoever_came_first() {
    let mut world = World::new();
    for id in ["a1", "a2", "a3"] {
        world.submit(of("alice", id));
    }
    for id in ["b1", "b2"] {
        world.submit(of("bob", id));
    }
    world.connect("w", 1, 2);
    assert_eq!(
        running(&world, &["a1", "a2", "b1", "b2"]),
        [true, false, true, false]
    );
    // Twice the weight, twice the slots.
    set_user(&mut world, "alice", 2, None, 0);
    world.connect("v", 2, 1);
    assert_eq!(running(&world, &["a2", "b2"]), [true, false]);
}

#[test]
fn who_has_submitted_is_a_user_before_anything_runs_and_after_a_restart() {
    let names = |world: &World| {
        let users = world.scheduler.users();
        users.map(|user| user.record.name.to_string()).collect::<Vec<_>>()
    };
    let mut world = World::new();
    world.submit(of("bob", "b"));
    world.submit(of("alice", "a"));
    assert_eq!(names(&world), ["alice", "bob"]);
    world.restart();
    assert_eq!(names(&world), ["alice", "bob"]);
}

#[test]
fn nobody_has_more_than_the_limit() {
    let mut world = World::new();
    set_user(&mut world, "alice", 1, Some(1), 0);
    world.submit(of("alice", "a1"));
    world.submit(of("alice", "a2"));
    let effects = world.connect("w", 1, 4);
    let first = only(&effects);
    let reason = world.stage("a2", StageKind::Teacher).reason;
    assert_eq!(
        reason,
        "waits: alice has 1 of at most 1 slot and this needs 1 more"
    );
    // The next is of the same user: alice's one slot goes to the elder job's student.
    let student = only(&world.finish("w", 1, &first));
    assert_eq!(student.spec.kind(), StageKind::Student);
    set_user(&mut world, "alice", 1, None, 0);
    assert_eq!(running(&world, &["a2"]), [true]);
}

#[test]
fn a_gang_is_no_wider_than_the_limit_allows() {
    let mut world = World::new();
    set_user(&mut world, "alice", 1, Some(2), 0);
    world.submit(wide(of("alice", "a"), "1..4"));
    let orders = assigned(&world.connect("w", 1, 4));
    assert_eq!(orders.len(), 2);
}

#[test]
fn priorities_can_be_changed_while_a_job_waits() {
    let mut world = World::new();
    let mut early = apart("early");
    early.task.resources.priority = -5;
    world.submit(early);
    world.submit(apart("late"));
    world.submit(apart("last"));
    let update = Event::Update {
        job: job("last"),
        priority: Some(50),
        deadline: None,
    };
    world.apply(update);
    assert_eq!(world.job("last").priority, 50);
    world.connect("w", 1, 1);
    assert_eq!(running(&world, &["early", "late", "last"]), [false, false, true]);
    world.connect("v", 2, 1);
    assert_eq!(running(&world, &["early", "late"]), [false, true]);
    world.restart();
    assert_eq!(world.job("last").priority, 50, "it is kept");
}

#[test]
fn a_job_with_labels_runs_where_they_are() {
    let mut world = World::new();
    let mut picky = apart("picky");
    picky.task.resources.labels = [("gpu".to_owned(), "h100".to_owned())].into_iter().collect();
    world.submit(picky);
    world.connect("plain", 1, 2);
    let reason = world.stage("picky", StageKind::Teacher).reason;
    assert_eq!(reason, "needs 1 slot with gpu=h100; 0 connected");
    let mut labelled = offer(1, "cuda");
    labelled.labels = [
        ("gpu".to_owned(), "h100".to_owned()),
        ("rack".to_owned(), "7".to_owned()),
    ]
    .into_iter()
    .collect();
    let effects = world.offers("fast", 2, labelled);
    assert_eq!(assigned(&effects)[0].0, worker("fast"));
}

/// Nobody asks for the stage while the coordinator comes back: its deadline is set when somebody does again.
#[test]
fn a_pause_over_a_restart_leaves_no_attempt_without_a_deadline() {
    let short = |id| {
        let mut submission = task(id, "digits");
        submission.task.resources.stage_minutes = 15;
        submission
    };
    for resumed in [true, false] {
        let mut world = World::new();
        world.connect("w", 1, 1);
        let teacher = only(&world.submit(short("a")));
        world.apply(Event::Pause {
            job: job("a"),
            reason: "lunch".into(),
            time: seconds(24 * 3600),
        });
        world.restart();
        let effects = world.connect_with("w", 2, 1, &[teacher.seat], &[]);
        assert!(stopped(&effects).is_empty());
        match resumed {
            true => world.apply(Event::Resume { job: job("a") }),
            // Another job asks for the same.
            false => world.submit(short("b")),
        };
        let mut ended = Vec::new();
        while ended.is_empty() && world.now.elapsed < seconds(16 * 60) {
            ended = stopped(&world.live(&[("w", 2)], 1));
        }
        assert_eq!(ended, [teacher.seat], "the trainer hangs");
    }
}

#[test]
fn a_paused_job_makes_room_after_its_next_checkpoint_and_goes_on_from_there() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let order = only(&world.submit(apart("a")));
    world.submit(apart("b"));
    let pause = Event::Pause {
        job: job("a"),
        reason: "make room".into(),
        time: seconds(3600),
    };
    let effects = world.apply(pause);
    assert!(stopped(&effects).is_empty(), "it may leave a checkpoint first");
    assert_eq!(world.job("a").phase, JobPhase::Paused);
    let effects = world.checkpoint("w", 1, order.seat, 3);
    assert_eq!(stopped(&effects), [order.seat]);
    let effects = world.fail("w", 1, order.seat, FailureClass::Lost);
    let other = only(&effects);
    assert_eq!(running(&world, &["a", "b"]), [false, true]);
    world.restart();
    assert_eq!(world.job("a").phase, JobPhase::Paused, "it is kept");
    world.connect_with("w", 2, 1, &[other.seat], &[]);
    world.connect("v", 3, 1);
    assert_eq!(running(&world, &["a"]), [false]);
    let again = only(&world.apply(Event::Resume { job: job("a") }));
    assert_eq!(again.seat.attempt.number, 2);
    assert!(again.checkpoint.is_some());
    let counters = world.scheduler.counters();
    assert_eq!((counters.faults, counters.losses), (0, 0));
}

#[test]
fn a_job_that_is_resumed_before_it_made_room_goes_on() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let order = only(&world.submit(apart("a")));
    let pause = |time| Event::Pause {
        job: job("a"),
        reason: String::new(),
        time,
    };
    world.apply(pause(seconds(60)));
    world.live(&[("w", 1)], 61);
    assert_eq!(world.job("a").phase, JobPhase::Running, "a pause ends by itself");
    let effects = world.checkpoint("w", 1, order.seat, 1);
    assert!(stopped(&effects).is_empty());
}

#[test]
fn a_job_is_over_by_its_deadline() {
    let mut world = World::new();
    let mut hurried = apart("a");
    hurried.task.resources.deadline_minutes = 10;
    world.submit(hurried);
    world.pass(seconds(599));
    assert_eq!(world.job("a").phase, JobPhase::Queued);
    world.restart();
    world.pass(seconds(2));
    let view = world.job("a");
    assert_eq!(
        (view.phase, view.failure_class),
        (JobPhase::Failed, Some(FailureClass::Deadline))
    );
    let update = Event::Update {
        job: job("a"),
        priority: Some(1),
        deadline: None,
    };
    assert_eq!(world.try_apply(update), Err(Rejected::JobOver(job("a"))));
}

#[test]
fn a_retry_does_once_more_what_it_is_told_to() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let effects = world.submit(apart("a"));
    world.run(effects);
    let again = |world: &World, fresh: &str, failed_only, from| {
        world
            .scheduler
            .once_more(&job("a"), job(fresh), failed_only, from)
    };
    assert_eq!(again(&world, "b", true, None), Ok(None), "it did not fail");
    let all = again(&world, "b", false, Some(StageKind::Student))
        .expect("over")
        .expect("wanted");
    let effects = world.submit(all);
    let ran = world.run(effects);
    let kinds = [
        StageKind::Student,
        StageKind::Candidate(2),
        StageKind::Candidate(4),
        StageKind::Select,
    ];
    assert_eq!(ran, kinds, "the teacher is as it was");
    let view = world.job("b");
    assert_eq!((view.phase, view.retry_of), (JobPhase::Succeeded, Some(job("a"))));
    // Once more: again new keys.
    let third = world
        .scheduler
        .once_more(&job("b"), job("c"), false, Some(StageKind::Student));
    let effects = world.submit(third.expect("over").expect("wanted"));
    assert_eq!(world.run(effects).len(), 4);
    let missing = again(&world, "d", false, Some(StageKind::Search));
    assert!(matches!(missing, Err(Rejected::NoSuchStage { .. })));
}

#[test]
fn a_cordoned_worker_keeps_what_it_has_and_a_drained_one_sends_it_elsewhere() {
    let mut world = World::new();
    world.connect("w", 1, 2);
    let order = only(&world.submit(apart("a")));
    let cordon = |drain| Event::Cordon {
        worker: worker("w"),
        reason: "new memory".into(),
        drain,
    };
    world.apply(cordon(false));
    assert!(assigned(&world.submit(apart("b"))).is_empty());
    assert_eq!(world.worker("w").phase, WorkerPhase::Cordoned);
    world.restart();
    world.connect_with("w", 2, 2, &[order.seat], &[]);
    assert_eq!(world.worker("w").phase, WorkerPhase::Cordoned, "it is kept");
    assert_eq!(running(&world, &["a", "b"]), [true, false]);

    world.apply(cordon(true));
    world.connect("v", 3, 1);
    assert_eq!(running(&world, &["b"]), [true]);
    let effects = world.checkpoint("w", 2, order.seat, 2);
    assert_eq!(stopped(&effects), [order.seat]);
    world.fail("w", 2, order.seat, FailureClass::Lost);
    let moved = only(&world.connect("u", 4, 1));
    assert_eq!(
        (moved.seat.attempt.stage, moved.checkpoint.is_some()),
        (order.seat.attempt.stage, true)
    );
    world.submit(apart("c"));
    assert_eq!(running(&world, &["c"]), [false]);
    world.apply(Event::Uncordon { worker: worker("w") });
    assert_eq!(running(&world, &["c"]), [true]);
}

#[test]
fn a_worker_that_breaks_three_stages_in_a_row_is_left_alone_for_a_while() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    for id in ["a", "b", "c"] {
        world.submit(apart(id));
    }
    world.submit(apart("d"));
    for _ in 0..3 {
        let seat = world.worker("w").running[0].seat;
        world.fail("w", 1, seat, FailureClass::Resources);
    }
    let view = world.worker("w");
    assert_eq!(view.phase, WorkerPhase::SetAside, "{}", view.reason);
    assert!(assigned(&world.live(&[("w", 1)], 599)).is_empty());
    let trial = only(&world.live(&[("w", 1)], 2));
    // One more that breaks is enough now; one that is done clears it.
    world.finish("w", 1, &trial);
    assert_eq!(world.worker("w").phase, WorkerPhase::Ready);
    let seat = world.worker("w").running[0].seat;
    world.fail("w", 1, seat, FailureClass::Resources);
    assert_eq!(world.worker("w").phase, WorkerPhase::Ready);
}

#[test]
fn a_stage_that_breaks_everywhere_is_not_held_against_workers() {
    let mut world = World::new();
    let mut bad = apart("a");
    bad.task.resources.max_attempts = 100;
    world.submit(bad);
    for round in 0..2 {
        for name in ["u", "v", "w"] {
            let effects = world.connect(name, 10 * round + 1, 1);
            let seat = only(&effects).seat;
            world.fail(name, 10 * round + 1, seat, FailureClass::Internal);
            world.disconnect(name, 10 * round + 1);
            world.pass(LOST + seconds(60));
        }
    }
    let phases: Vec<_> = world.scheduler.workers().map(|view| view.phase).collect();
    assert!(!phases.contains(&WorkerPhase::SetAside), "{phases:?}");
}

#[test]
fn a_stop_that_is_never_obeyed_gives_the_slot_up_and_takes_the_worker_out_of_use() {
    let mut world = World::new();
    world.connect("w", 1, 2);
    let order = only(&world.submit(apart("a")));
    world.cancel("a");
    world.live(&[("w", 1)], 200);
    let view = world.worker("w");
    assert_eq!(
        (view.phase, view.slots_used),
        (WorkerPhase::Cordoned, 1),
        "{}",
        view.reason
    );
    assert!(
        view.reason.contains("was told 5 times to stop"),
        "{}",
        view.reason
    );
    world.fail("w", 1, order.seat, FailureClass::Lost);
    assert_eq!(world.worker("w").slots_used, 0);
}

#[test]
fn stages_of_no_duration_are_shared_out_too() {
    let mut world = World::new();
    for number in 0..6 {
        world.submit(of("alice", &format!("a{number}")));
    }
    for number in 0..6 {
        world.submit(of("bob", &format!("b{number}")));
    }
    let effects = world.connect("w", 1, 1);
    let mut open = assigned(&effects);
    let mut names = Vec::new();
    while names.len() < 12 {
        let (name, order) = open.remove(0);
        names.push(order.description[..1].to_owned());
        open.extend(assigned(&world.finish(name.as_str(), 1, &order)));
    }
    let of_alice = names.iter().filter(|name| *name == "a").count();
    assert_eq!(of_alice, 6, "{names:?}");
}

#[test]
fn clocks_that_jump_change_nothing_but_what_is_shown() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let order = only(&world.submit(apart("a")));
    for jump in [0, 5_000_000_000_000, 1_000, 1_700_000_000_000] {
        world.now.wall_ms = jump;
        world.heartbeat("w", 1);
        let effects = world.pass(Duration::from_secs(2));
        assert!(effects.is_empty(), "{effects:?}");
    }
    assert_eq!(world.worker("w").running[0].seat, order.seat);
}
