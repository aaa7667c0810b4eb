//! Who starts before a gang that has to wait, and for how long.

use std::collections::BTreeMap;

use nettailor_domain::ids::Seat;
use nettailor_domain::session::Order;
use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::Config;
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::Submission;
use nettailor_scheduler::testing::{task, wide};
use proptest::prelude::*;

use crate::world::{World, assigned, only, seconds};

/// A task that shares no stage with the others and has one candidate: four stages, one after the other.
fn apart(job: &str, seed: u64, workers: &str) -> Submission {
    let mut submission = wide(task(job, job), workers);
    submission.task.seed = seed;
    submission.task.candidates.k = Some(vec![2]);
    submission
}

/// What was started, once for each gang.
fn started(effects: &[Effect]) -> Vec<String> {
    let all = assigned(effects).into_iter();
    let first = all.filter(|(_, order)| order.seat.rank == 0);
    first.map(|(_, order)| order.description).collect()
}

/// Lets seconds pass without any worker falling silent.
fn wait(world: &mut World, number: u64) -> Vec<Effect> {
    let mut effects = Vec::new();
    for _ in 0..number {
        effects.extend(world.pass(seconds(1)));
        let names: Vec<_> = world.scheduler.workers().map(|worker| worker.id).collect();
        for name in names {
            effects.extend(world.heartbeat(name.as_str(), 1));
        }
    }
    effects
}

/// The worker on which a rank runs.
fn host(world: &World, seat: Seat) -> &'static str {
    let on = |name: &&str| {
        world
            .scheduler
            .workers()
            .any(|view| view.id.as_str() == *name && view.running.iter().any(|running| running.seat == seat))
    };
    ["a", "b"].into_iter().find(on).expect("it runs")
}

/// Ends what was told to stop.
fn end(world: &mut World, order: &Order) -> Vec<Effect> {
    let name = host(world, order.seat);
    world.fail(name, 1, order.seat, FailureClass::Lost)
}

fn reason(world: &World, job: &str) -> String {
    world.stage(job, StageKind::Teacher).reason
}

#[test]
fn small_stages_start_before_a_gang_until_its_patience_is_over() {
    let mut world = World::new();
    world.connect("a", 1, 2);
    let small = only(&world.submit(apart("s", 1, "1")));
    assert!(started(&world.submit(apart("g", 2, "2"))).is_empty());
    assert_eq!(reason(&world, "g"), "waits for 2 free slots: 1 of 2 busy");
    // Nobody has started before it yet: its patience is not tried.
    wait(&mut world, 100);
    let passing = only(&world.submit(apart("t", 3, "1")));
    wait(&mut world, 59);
    // A later stage takes the slot that becomes free: there is a second left.
    let next = only(&world.finish("a", 1, &passing));
    assert_eq!(next.description, "t: student");
    wait(&mut world, 1);
    assert_eq!(
        reason(&world, "g"),
        "waits for 2 free slots: 2 of 2 busy, those that become free are kept for it"
    );
    assert!(started(&world.finish("a", 1, &next)).is_empty());
    assert_eq!(
        reason(&world, "g"),
        "waits for 2 free slots: 1 of 2 busy, those that become free are kept for it"
    );
    let held_back = world.stage("t", StageKind::Candidate(2)).reason;
    assert_eq!(held_back, "waits: free slots are kept for g: teacher");
    // An earlier job's next stage comes first, as ever.
    let effects = world.finish("a", 1, &small);
    assert_eq!(started(&effects), ["s: student"]);
    let mut next = only(&effects);
    while next.description.starts_with("s: ") {
        let effects = world.finish("a", 1, &next);
        next = assigned(&effects).remove(0).1;
    }
    assert_eq!((next.description.as_str(), next.world_size), ("g: teacher", 2));
}

#[test]
fn a_gang_that_never_fits_holds_up_nobody_and_says_why() {
    let mut world = World::new();
    world.connect("a", 1, 3);
    world.submit(apart("g", 1, "4..6"));
    let mut running = only(&world.submit(apart("s", 2, "1")));
    wait(&mut world, 200);
    assert_eq!(reason(&world, "g"), "needs 4 slots; 3 connected");
    while running.spec.kind() != StageKind::Select {
        running = assigned(&world.finish("a", 1, &running)).remove(0).1;
    }
    // A worker more, and it starts on all that is free.
    let effects = world.connect("b", 1, 3);
    assert_eq!(started(&effects), ["g: teacher"]);
    assert_eq!(assigned(&effects).len(), 5);
}

#[test]
fn slots_are_kept_for_one_gang_at_a_time() {
    let mut world = World::new();
    world.connect("a", 1, 4);
    let busy: Vec<Order> = (0..3)
        .map(|n| only(&world.submit(apart(&format!("s{n}"), n, "1"))))
        .collect();
    world.submit(apart("g", 10, "4"));
    world.submit(apart("h", 11, "3"));
    let passing = only(&world.submit(apart("t", 12, "1")));
    wait(&mut world, 60);
    world.cancel("t");
    assert!(
        started(&end(&mut world, &passing)).is_empty(),
        "kept for the first"
    );
    for n in 0..3 {
        world.cancel(&format!("s{n}"));
    }
    assert!(started(&end(&mut world, &busy[0])).is_empty());
    assert!(
        started(&end(&mut world, &busy[1])).is_empty(),
        "the second gang would fit"
    );
    assert_eq!(reason(&world, "h"), "waits: free slots are kept for g: teacher");
    assert_eq!(started(&end(&mut world, &busy[2])), ["g: teacher"]);
}

#[test]
fn slots_are_kept_no_longer_than_the_gang_could_use_them() {
    let mut world = World::new();
    world.connect("a", 1, 2);
    world.connect("b", 1, 1);
    let first = only(&world.submit(apart("s", 1, "1")));
    world.submit(apart("g", 2, "3"));
    let second = only(&world.submit(apart("t", 3, "1")));
    let third = only(&world.submit(apart("u", 4, "1")));
    wait(&mut world, 60);
    world.submit(apart("v", 5, "1"));
    let mut all = [&first, &second, &third].into_iter();
    let freed = all
        .find(|order| host(&world, order.seat) == "a")
        .expect("one of them");
    world.cancel(&freed.description[..1]);
    assert!(started(&end(&mut world, freed)).is_empty());
    assert_eq!(reason(&world, "v"), "waits: free slots are kept for g: teacher");
    // Without the other worker there will not be three: nobody waits for that.
    let effects = world.disconnect("b", 1);
    assert_eq!(started(&effects), ["v: teacher"]);
    assert_eq!(reason(&world, "g"), "needs 3 slots; 2 connected");
}

/// A stage that runs, until this second.
type Busy = BTreeMap<Seat, (u64, Order)>;

/// Four slots under a stream of small tasks, each of whose stages takes up to `longest` seconds, and gangs among them.
/// Returns the longest time that a gang's first stage waited, in seconds.
fn stream(submissions: &[(u8, u8)], durations: &[u8], longest: u64) -> u64 {
    let mut world = World::new();
    world.connect("a", 1, 3);
    world.connect("b", 1, 1);
    let mut durations = durations.iter().cycle().map(|d| 1 + u64::from(*d) % longest);
    let mut busy = Busy::new();
    let mut waiting: BTreeMap<String, u64> = BTreeMap::new();
    let mut worst = 0;
    let mut second = 0;
    let mut begun = |busy: &mut Busy, waiting: &mut BTreeMap<String, u64>, effects: &[Effect], now: u64| {
        let mut end = now;
        for (_, order) in assigned(effects) {
            if order.seat.rank == 0 {
                end = now + durations.next().expect("a cycle");
                if let Some(since) = waiting.remove(&order.description) {
                    worst = worst.max(now - since);
                }
            }
            busy.insert(order.seat, (end, order));
        }
    };
    let mut submissions = submissions.iter().enumerate().peekable();
    while submissions.peek().is_some() || !busy.is_empty() {
        if second % 2 == 0
            && let Some((number, (workers, seed))) = submissions.next()
        {
            let job = format!("j{number}");
            let workers = ["1", "1", "1", "1..2", "2", "3", "2..4", "4"][usize::from(*workers) % 8];
            let submission = apart(&job, u64::from(*seed) + 1000 * number as u64, workers);
            if submission.task.workers.min() > 1 {
                waiting.insert(format!("{job}: teacher"), second);
            }
            let effects = world.submit(submission);
            begun(&mut busy, &mut waiting, &effects, second);
        }
        second += 1;
        let mut effects = world.pass(seconds(1));
        if second % 3 == 0 {
            effects.extend(["a", "b"].map(|name| world.heartbeat(name, 1)).concat());
        }
        begun(&mut busy, &mut waiting, &effects, second);
        let ended: Vec<Seat> = busy
            .iter()
            .filter(|(_, (end, _))| *end <= second)
            .map(|(seat, _)| *seat)
            .collect();
        for seat in ended {
            let (_, order) = busy.remove(&seat).expect("it ran");
            let name = host(&world, seat);
            let effects = world.finish(name, 1, &order);
            begun(&mut busy, &mut waiting, &effects, second);
        }
    }
    assert!(waiting.is_empty(), "started: {waiting:?}");
    let live = world.scheduler.jobs().filter(|job| !job.phase.is_final()).count();
    assert_eq!(live, 0, "every job ended");
    worst
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the mix, every stage runs and every job ends, with whole gangs only (as `World` checks with every event).
    #[test]
    fn everything_in_line_gets_its_turn(
        submissions in prop::collection::vec((any::<u8>(), any::<u8>()), 1..25),
        durations in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        stream(&submissions, &durations, 20);
    }
}

/// A gang behind an endless stream of small tasks waits for its patience and for what runs then, and for what its own place in
/// line lets before it: the stages of the one job that was submitted earlier.
#[test]
fn a_stream_of_small_tasks_does_not_starve_a_gang() {
    let longest = 20;
    let mut submissions = vec![(0, 0), (7, 0)];
    submissions.extend(std::iter::repeat_n((0, 0), 50));
    let worst = stream(&submissions, &[19, 18, 17], longest);
    let patience = Config::default().gang_patience.as_secs();
    let stages_before = 4;
    let bound = patience + longest + stages_before * longest;
    assert!(patience < worst && worst <= bound, "{worst} s, at most {bound} s");
}
