//! One search instead of many candidates.

use nettailor_domain::stage::{Infeasible, StageKind, StageOutcome, StageResult};
use nettailor_domain::trainer::{Failure, FailureClass};
use nettailor_scheduler::testing::{ARCH, infeasible, result, search, searching, task};
use nettailor_scheduler::view::JobPhase;

use crate::world::{World, assigned, only};

const ALL: [StageKind; 4] = [
    StageKind::Teacher,
    StageKind::Student,
    StageKind::Search,
    StageKind::Select,
];

#[test]
fn the_choice_is_the_searchs_own() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(searching(task("a", "digits"))));
    let student = only(&world.finish("w", 1, &teacher));
    let search = only(&world.finish("w", 1, &student));
    assert_eq!(search.parents, [result(&teacher), result(&student)]);
    // It chose what selection over the same figures would not have.
    let mut found = result(&search);
    if let StageOutcome::Search {
        frontier,
        selection,
        tailored,
        ..
    } = &mut found.outcome
    {
        tailored.point = frontier[0];
        (selection.k, selection.qualified) = (2, false);
        frontier[1].epochs = 0.0;
    }
    let select = only(&world.finish_with("w", 1, search.seat, found.clone()));
    let selection = select.selection.expect("a choice");
    assert_eq!((selection.k, selection.qualified), (2, false));
    assert_eq!(select.parents, [result(&teacher), found.clone()]);
    world.finish("w", 1, &select);

    let model = world.scheduler.models().next().expect("a model");
    assert_eq!(model.selection, selection);
    assert_eq!(model.frontier, found.outcome.frontier());
    assert_eq!(model.counts, found.outcome.frontier()[0].counts);
    assert_eq!(model.weights, found.weights.expect("weights"));
    assert_eq!(model.lineage.stages, ALL.map(|kind| world.key("a", kind)));
    let StageOutcome::Select {
        teacher_latency,
        latency,
        ..
    } = result(&select).outcome
    else {
        panic!("a measurement")
    };
    assert_eq!(
        (model.latency.teacher, model.latency.network),
        (teacher_latency, latency)
    );
}

#[test]
fn switching_to_a_search_keeps_teacher_and_student() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let effects = world.submit(task("a", "digits"));
    world.run(effects);
    let effects = world.submit(searching(task("b", "digits")));
    assert_eq!(world.run(effects), ALL[2..]);
    let effects = world.submit(searching(task("c", "digits")));
    assert!(assigned(&effects).is_empty());
    assert_eq!(world.job("c").model_version, Some(2));
    // Every candidate is on the frontier, however they were found.
    for model in world.scheduler.models() {
        let ladder: Vec<usize> = model.frontier.iter().map(|point| point.k).collect();
        assert_eq!(ladder, [2, 4]);
    }
}

#[test]
fn a_search_without_a_feasible_candidate_fails_the_job() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(searching(task("a", "digits"))));
    let student = only(&world.finish("w", 1, &teacher));
    let search = only(&world.finish("w", 1, &student));
    let failure = Failure {
        class: FailureClass::Input,
        message: "no candidate leaves a network".into(),
    };
    assert!(assigned(&world.fail_with("w", 1, search.seat, failure)).is_empty());
    assert_eq!(world.job("a").phase, JobPhase::Failed);
    assert_eq!(
        world.job("a").reason,
        "search failed (input) after 1 attempt: no candidate leaves a network"
    );
}

#[test]
fn a_search_goes_on_after_a_restart() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(searching(task("a", "digits"))));
    let student = only(&world.finish("w", 1, &teacher));
    let search = only(&world.finish("w", 1, &student));
    world.restart();
    world.connect_with("w", 2, 1, &[search.seat], &[]);
    let select = only(&world.finish("w", 2, &search));
    world.restart();
    world.connect_with("w", 3, 1, &[select.seat], &[]);
    world.finish("w", 3, &select);
    assert_eq!(world.job("a").model_version, Some(1));
}

#[test]
fn what_no_search_can_find_counts_as_a_fault() {
    let search_of = |change: fn(&mut StageResult)| {
        let mut world = World::new();
        world.connect("w", 1, 1);
        let teacher = only(&world.submit(searching(task("a", "digits"))));
        let student = only(&world.finish("w", 1, &teacher));
        let search = only(&world.finish("w", 1, &student));
        let mut found = result(&search);
        change(&mut found);
        world.finish_with("w", 1, search.seat, found);
        assert_eq!(world.scheduler.counters().faults, 1);
        let reason = world.stage("a", StageKind::Search).reason;
        let (_, reported) = reason
            .split_once("the trainer reported ")
            .expect("what was reported");
        reported.to_owned()
    };
    let expected = "where the result of search was expected";
    assert_eq!(
        search_of(|found| {
            if let StageOutcome::Search { frontier, .. } = &mut found.outcome {
                frontier[0].k = 3;
            }
        }),
        format!("a search over candidate(3), which is not on its ladder, {expected}")
    );
    assert_eq!(
        search_of(|found| {
            if let StageOutcome::Search { infeasible, .. } = &mut found.outcome {
                infeasible.push(Infeasible {
                    k: 8,
                    reason: "cut off".into(),
                });
            }
        }),
        format!("a search over candidate(8), which is not on its ladder, {expected}")
    );
    assert_eq!(
        search_of(|found| {
            if let StageOutcome::Search { frontier, .. } = &mut found.outcome {
                frontier.reverse();
            }
        }),
        format!("a frontier that does not ascend {expected}")
    );
    assert_eq!(
        search_of(|found| {
            if let StageOutcome::Search { frontier, .. } = &mut found.outcome {
                frontier.pop();
            }
        }),
        format!("a choice of candidate(4), which is not on the frontier, {expected}")
    );
    assert_eq!(
        search_of(|found| {
            if let StageOutcome::Search { selection, .. } = &mut found.outcome {
                selection.k = 2;
            }
        }),
        format!("a choice of candidate(2), which is not on the frontier, {expected}")
    );
    assert_eq!(
        search_of(|found| found.weights = None),
        "search as done without leaving its weights"
    );
    assert_eq!(
        search_of(|found| *found = infeasible(2)),
        format!("infeasible candidate(2) {expected}")
    );
}

#[test]
fn a_search_is_not_the_result_of_a_candidate() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    let student = only(&world.finish("w", 1, &teacher));
    let candidate = only(&world.finish("w", 1, &student));
    let found = StageResult {
        outcome: search(ARCH, &[2]),
        ..result(&candidate)
    };
    world.finish_with("w", 1, candidate.seat, found);
    let reason = world.stage("a", StageKind::Candidate(2)).reason;
    assert!(
        reason.ends_with("reported a search where the result of candidate(2) was expected"),
        "{reason}"
    );
}
