//! What rank 0 says for its gang: where the others find it, and what a later attempt can go on from.

use nettailor_domain::ids::{Digest, Seat};
use nettailor_domain::session::Address;
use nettailor_domain::stage::{Artifact, Checkpoint};
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::{Event, SessionNumber};
use nettailor_scheduler::record::{Record, RecordKey};
use nettailor_scheduler::testing::task;
use nettailor_scheduler::view::JobPhase;

use crate::gangs::{gang, orders, pair, teacher};
use crate::world::{World, only, seconds, worker};

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
