//! Attempts of several ranks: how they are placed, end, meet and go on.

use nettailor_domain::ids::{Digest, Seat};
use nettailor_domain::session::{Address, Order};
use nettailor_domain::stage::{Artifact, Checkpoint, StageKind};
use nettailor_domain::trainer::{Failure, FailureClass};
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::{Event, SessionNumber, Submission};
use nettailor_scheduler::record::{Record, RecordKey};
use nettailor_scheduler::view::{JobPhase, StagePhase};

use crate::tasks::{infeasible, result, task, wide};
use crate::world::{World, acknowledged, assigned, offer, only, seconds, stopped, worker};

fn gang(job: &str, workers: &str) -> Submission {
    wide(task(job, "digits"), workers)
}

/// The workers of what was assigned, by rank.
fn names(effects: &[Effect]) -> Vec<String> {
    let gang = assigned(effects);
    gang.into_iter().map(|(name, _)| name.to_string()).collect()
}

fn orders(effects: &[Effect]) -> Vec<Order> {
    assigned(effects).into_iter().map(|(_, order)| order).collect()
}

/// A gang of two over the workers `a` and `b`, one slot each, in session 1.
fn pair(world: &mut World) -> [Order; 2] {
    world.connect("a", 1, 1);
    world.connect("b", 1, 1);
    let effects = world.submit(gang("x", "2"));
    assert_eq!(names(&effects), ["a", "b"]);
    orders(&effects).try_into().expect("two ranks")
}

fn teacher(world: &World) -> nettailor_scheduler::view::StageView {
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
    let mut effects = Vec::new();
    for _ in 0..6 {
        world.heartbeat("a", 1);
        effects.extend(world.pass(seconds(2)));
    }
    let (seat, reason) = stop_reasons(&effects).remove(0);
    assert_eq!(seat, zero.seat);
    assert!(
        reason.starts_with("rank 1 on b ended: b disconnected"),
        "{reason}"
    );
    assert_eq!(world.scheduler.counters().losses, 1);
    let again = world.fail("a", 1, zero.seat, FailureClass::Lost);
    assert_eq!(
        (names(&again), orders(&again)[0].world_size),
        (vec!["a".into()], 1)
    );
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
    // A gang that was lost is not taken up again: it starts anew.
    let seats = [ranks[0].seat, ranks[1].seat];
    let effects = world.connect_with("a", 2, 2, &seats, &[]);
    assert_eq!(stopped(&effects), seats);
    for seat in seats {
        world.fail("a", 2, seat, FailureClass::Lost);
    }
    assert_eq!(teacher(&world).attempt, 2);
}

#[test]
fn the_last_open_rank_is_taken_up_again_after_its_lease() {
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
        "loss 1 of at most 5, next attempt in 1 s after: b is disconnected; a says: rank 1 was silent for 3 s"
    );
    // Its end is the end of that seat and of nothing else.
    let effects = world.connect_with("b", 2, 1, &[one.seat], &[]);
    assert_eq!(stopped(&effects), [one.seat]);
    world.fail("b", 2, one.seat, FailureClass::Lost);
    let again = orders(&world.pass(seconds(1)));
    assert_eq!(again.len(), 2);

    // Nobody is away: they lost each other, nobody knows by whose doing.
    world.fail_with("a", 1, again[0].seat, silent.clone());
    assert_eq!(
        teacher(&world).reason,
        "loss 2 of at most 5, next attempt in 1 s after: rank 1 was silent for 3 s"
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
    for _ in 0..12 {
        for name in ["a", "b"] {
            world.heartbeat(name, 1);
        }
        effects.extend(world.pass(seconds(5)));
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

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

fn meeting(world: &mut World, name: &str, session: SessionNumber, seat: Seat, at: &str) -> Vec<Effect> {
    world.apply(Event::Meeting {
        worker: worker(name),
        session,
        seat,
        address: address(at),
    })
}

/// Who was told where to meet.
fn met(effects: &[Effect]) -> Vec<(String, Seat, String)> {
    let met = effects.iter().filter_map(|effect| match effect {
        Effect::Meet {
            worker,
            seat,
            address,
            ..
        } => Some((worker.to_string(), *seat, address.to_string())),
        _ => None,
    });
    met.collect()
}

#[test]
fn the_other_ranks_are_told_where_rank_0_waits() {
    let mut world = World::new();
    world.connect("a", 1, 1);
    world.connect("b", 1, 2);
    let ranks = orders(&world.submit(gang("x", "3")));
    assert_eq!(teacher(&world).reason, "runs on b x2, a since 22:13:20 UTC");
    let effects = meeting(&mut world, "b", 1, ranks[0].seat, "10.0.0.2:4711");
    let at = || "10.0.0.2:4711".to_owned();
    assert_eq!(
        met(&effects),
        [
            ("b".into(), ranks[1].seat, at()),
            ("a".into(), ranks[2].seat, at())
        ]
    );
    // Repeated in a new session, it is no news, but for a worker that is back.
    world.disconnect("a", 1);
    let seats = [ranks[0].seat, ranks[1].seat];
    let effects = world.connect_with("b", 2, 2, &seats, &[]);
    assert_eq!(met(&effects), [("b".into(), ranks[1].seat, at())]);
    assert!(met(&meeting(&mut world, "b", 2, ranks[0].seat, "10.0.0.2:4711")).is_empty());
    let effects = world.connect_with("a", 2, 1, &[ranks[2].seat], &[]);
    assert_eq!(met(&effects), [("a".into(), ranks[2].seat, at())]);
    // A restarted coordinator knows once it is told, whoever comes back first.
    world.restart();
    world.connect_with("a", 3, 1, &[ranks[2].seat], &[]);
    world.connect_with("b", 3, 2, &seats, &[]);
    let effects = meeting(&mut world, "b", 3, ranks[0].seat, "10.0.0.2:4711");
    assert_eq!(met(&effects).len(), 2);
    assert_eq!(world.scheduler.counters().stale_reports, 0);
}

#[test]
fn a_rank_of_an_older_attempt_calls_nobody() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    // Not rank 0, not its worker.
    assert!(meeting(&mut world, "b", 1, one.seat, "b:1").is_empty());
    assert!(meeting(&mut world, "b", 1, zero.seat, "b:1").is_empty());
    world.fail("b", 1, one.seat, FailureClass::Lost);
    assert!(met(&meeting(&mut world, "a", 1, zero.seat, "a:1")).is_empty());
    world.fail("a", 1, zero.seat, FailureClass::Lost);
    let again = orders(&world.pass(seconds(1)));
    assert!(met(&meeting(&mut world, "a", 1, zero.seat, "a:1")).is_empty());
    let counted = world.scheduler.counters().stale_reports;
    assert_eq!(
        counted, 5,
        "four meetings, and the report of the rank that was stopped"
    );
    let effects = meeting(&mut world, "a", 1, again[0].seat, "a:2");
    assert_eq!(met(&effects), [("b".into(), again[1].seat, "a:2".into())]);
}

fn checkpoint(epoch: u32) -> Checkpoint {
    Checkpoint {
        artifact: Artifact {
            digest: Digest::of(&epoch.to_be_bytes()),
            bytes: 70,
        },
        epoch,
        step: 10 * u64::from(epoch),
    }
}

/// Rank 0 leaves the checkpoint of an epoch; says whether a record changed.
fn leave(world: &mut World, name: &str, seat: Seat, epoch: u32) -> bool {
    let key = RecordKey::Stage(seat.attempt.stage);
    let before = world.kept.get(&key).cloned();
    world.apply(Event::Checkpointed {
        worker: worker(name),
        session: 1,
        seat,
        checkpoint: checkpoint(epoch),
    });
    world.kept.get(&key).cloned() != before
}

#[test]
fn the_next_attempt_goes_on_from_the_newest_checkpoint() {
    let mut world = World::new();
    let [zero, one] = pair(&mut world);
    assert_eq!((zero.checkpoint, zero.checkpoint_seconds), (None, 30));
    assert!(leave(&mut world, "a", zero.seat, 2));
    assert!(leave(&mut world, "a", zero.seat, 3));
    // Out of order, again, from another rank, from another worker.
    assert!(!leave(&mut world, "a", zero.seat, 2));
    assert!(!leave(&mut world, "a", zero.seat, 3));
    assert!(!leave(&mut world, "b", one.seat, 4));
    assert!(!leave(&mut world, "b", zero.seat, 4));
    assert_eq!(world.scheduler.counters().stale_reports, 2);

    world.fail("b", 1, one.seat, FailureClass::Resources);
    assert_eq!(
        teacher(&world).reason,
        "retry 2 of 3 in 1 s after: it broke; resumes after epoch 3"
    );
    assert_eq!(teacher(&world).checkpoint_epoch, Some(3));
    assert!(
        !leave(&mut world, "a", zero.seat, 4),
        "of an attempt that is over"
    );
    world.fail("a", 1, zero.seat, FailureClass::Lost);
    let again = orders(&world.pass(seconds(1)));
    let from = Some(checkpoint(3).artifact);
    assert_eq!([again[0].checkpoint, again[1].checkpoint], [from, from]);
    // It has to repeat some: what it leaves is newer all the same.
    assert!(leave(&mut world, "a", again[0].seat, 1));
    world.finish("a", 1, &again[0]);
    assert!(!leave(&mut world, "a", again[0].seat, 5));
    assert_eq!(teacher(&world).checkpoint_epoch, Some(1));
    let student = orders(&world.finish("b", 1, &again[1]));
    assert_eq!(student[0].checkpoint, None);
    assert_eq!(teacher(&world).checkpoint_epoch, None);
}

#[test]
fn checkpoints_survive_restarts_cancellations_and_losses() {
    let mut world = World::new();
    world.connect("a", 1, 1);
    let order = only(&world.submit(task("x", "digits")));
    leave(&mut world, "a", order.seat, 2);
    world.restart();
    world.pass(seconds(61));
    let again = only(&world.connect("a", 1, 1));
    assert_eq!(again.checkpoint, Some(checkpoint(2).artifact));
    world.cancel("x");
    world.fail("a", 1, again.seat, FailureClass::Lost);
    assert_eq!(
        teacher(&world).reason,
        "no live job asks for it; resumes after epoch 2"
    );
    let again = only(&world.submit(task("y", "digits")));
    assert_eq!(again.checkpoint, Some(checkpoint(2).artifact));
}

#[test]
fn a_checkpoint_that_may_be_what_breaks_the_trainer_is_given_up() {
    let mut world = World::new();
    world.connect("a", 1, 1);
    let first = only(&world.submit(task("x", "digits")));
    leave(&mut world, "a", first.seat, 2);
    world.fail("a", 1, first.seat, FailureClass::Internal);
    let second = only(&world.pass(seconds(1)));
    assert_eq!(
        second.checkpoint,
        Some(checkpoint(2).artifact),
        "it made that itself"
    );
    world.fail("a", 1, second.seat, FailureClass::Internal);
    let third = only(&world.pass(seconds(2)));
    assert_eq!(third.checkpoint, None);
    leave(&mut world, "a", third.seat, 1);
    world.fail("a", 1, third.seat, FailureClass::Internal);
    assert_eq!(world.job("x").phase, JobPhase::Failed);
    // Asked for anew, it begins anew.
    let Some(Record::Stage(kept)) = world.kept.get(&RecordKey::Stage(first.seat.attempt.stage)) else {
        panic!("a stage")
    };
    assert_eq!(kept.checkpoint, None);
}

#[test]
fn a_checkpoint_that_nobody_goes_on_from_any_more_is_removed() {
    let discarded = |effects: &[Effect]| {
        let artifacts = effects.iter().filter_map(|effect| match effect {
            Effect::Discard(artifact) => Some(*artifact),
            _ => None,
        });
        artifacts.collect::<Vec<_>>()
    };
    let mut world = World::new();
    world.connect("a", 1, 1);
    let order = only(&world.submit(task("x", "digits")));
    let left = |world: &mut World, epoch| {
        let event = Event::Checkpointed {
            worker: worker("a"),
            session: 1,
            seat: order.seat,
            checkpoint: checkpoint(epoch),
        };
        discarded(&world.apply(event))
    };
    assert_eq!(left(&mut world, 1), []);
    assert_eq!(left(&mut world, 2), [checkpoint(1).artifact]);
    assert_eq!(left(&mut world, 2), [], "said again");
    assert_eq!(discarded(&world.finish("a", 1, &order)), [checkpoint(2).artifact]);
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
    let mut effects = Vec::new();
    for _ in 0..12 {
        effects.extend(world.pass(seconds(5)));
        world.heartbeat("a", 2);
    }
    assert_eq!(stopped(&effects), [zero.seat]);
    world.fail("a", 2, zero.seat, FailureClass::Lost);
    world.connect("b", 2, 1);
    assert_eq!(names(&world.pass(seconds(1))), ["a", "b"]);
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
