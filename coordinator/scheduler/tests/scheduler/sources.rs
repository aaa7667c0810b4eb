//! Backbones that are pre-trained by a source stage.

use nettailor_domain::ids::Digest;
use nettailor_domain::stage::{Artifact, StageKind, StageOutcome, StageResult};
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::testing::{DATA_BYTES, SOURCE_BYTES, result, searching, sourced, task};
use nettailor_scheduler::view::{JobPhase, StagePhase};

use crate::world::{World, assigned, only};

const ALL: [StageKind; 6] = [
    StageKind::Source,
    StageKind::Teacher,
    StageKind::Student,
    StageKind::Candidate(2),
    StageKind::Candidate(4),
    StageKind::Select,
];

#[test]
fn what_a_source_makes_is_the_backbone_of_all_that_follows() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let source = only(&world.submit(sourced(task("a", "digits"), 0)));
    assert_eq!((source.spec.kind(), source.backbone), (StageKind::Source, None));
    let archive = |name: &[u8], bytes| Artifact {
        digest: Digest::of(name),
        bytes,
    };
    assert_eq!(source.data, archive(b"source", SOURCE_BYTES));
    assert_eq!(world.stage("a", StageKind::Teacher).reason, "waits for source");

    let backbone = result(&source).weights;
    assert!(backbone.is_some());
    let mut results: Vec<(StageKind, StageResult)> = Vec::new();
    let mut next = only(&world.finish("w", 1, &source));
    loop {
        let kind = next.spec.kind();
        assert_eq!(next.backbone, backbone, "{kind}");
        assert_eq!(next.data, archive(b"data", DATA_BYTES), "{kind}");
        let read: Vec<StageKind> = match kind {
            StageKind::Source | StageKind::Search => panic!("{kind} comes after the source"),
            StageKind::Teacher => vec![],
            StageKind::Student => vec![StageKind::Teacher],
            StageKind::Candidate(_) => vec![StageKind::Teacher, StageKind::Student],
            StageKind::Select => vec![StageKind::Teacher, StageKind::Candidate(4)],
        };
        let of = |kind: &StageKind| results.iter().find(|(other, _)| other == kind);
        let expected: Vec<StageResult> = read.iter().filter_map(of).map(|(_, r)| r.clone()).collect();
        assert_eq!(expected.len(), read.len());
        assert_eq!(next.parents, expected, "{kind}");
        results.push((kind, result(&next)));
        let effects = world.finish("w", 1, &next);
        match assigned(&effects).pop() {
            Some((_, order)) => next = order,
            None => break,
        }
    }
    let model = world.scheduler.models().next().expect("a model");
    assert_eq!(
        Some(model.lineage.backbone),
        backbone.map(|weights| weights.digest)
    );
    let lineage = ALL.map(|kind| world.key("a", kind));
    assert_eq!(model.lineage.stages, [&lineage[..3], &lineage[4..]].concat());
    assert_eq!(model.lineage.training_seconds, 12);
}

#[test]
fn two_jobs_share_a_source() {
    let mut world = World::new();
    world.connect("w", 1, 2);
    let source = only(&world.submit(sourced(task("a", "digits"), 0)));
    let mut other = searching(sourced(task("b", "letters"), 0));
    other.task.seed = 3;
    assert!(assigned(&world.submit(other)).is_empty());
    assert_eq!(world.scheduler.stage_jobs(&source.seat.attempt.stage).count(), 2);
    let effects = world.finish("w", 1, &source);
    assert_eq!(assigned(&effects).len(), 2, "two different teachers");
    let ran = world.run(effects);
    assert!(!ran.contains(&StageKind::Source));
    for id in ["a", "b"] {
        assert_eq!(world.job(id).phase, JobPhase::Succeeded, "{id}");
    }
    // Another source is another backbone.
    let effects = world.submit(sourced(task("c", "digits"), 1));
    assert_eq!(world.run(effects), ALL);
    assert_eq!(world.job("c").model_version, Some(2));
}

#[test]
fn workers_that_hold_a_sources_weights_are_preferred() {
    let mut world = World::new();
    let source = {
        world.connect("v", 1, 1);
        only(&world.submit(sourced(task("a", "digits"), 0)))
    };
    world.connect("u", 1, 1);
    // By name `u` came first; `v` has just made the weights.
    let effects = world.finish("v", 1, &source);
    assert_eq!(assigned(&effects)[0].0.as_str(), "v");
}

#[test]
fn a_source_that_fails_fails_every_job_that_needs_it() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let source = only(&world.submit(sourced(task("a", "digits"), 0)));
    world.submit(sourced(task("b", "letters"), 0));
    world.submit(task("c", "others"));
    world.fail("w", 1, source.seat, FailureClass::Input);
    for id in ["a", "b"] {
        let view = world.job(id);
        assert_eq!(view.phase, JobPhase::Failed, "{id}");
        assert_eq!(view.reason, "source failed (input) after 1 attempt: it broke");
    }
    assert_eq!(world.job("c").phase, JobPhase::Running);
}

#[test]
fn a_source_survives_a_restart_while_it_runs_and_when_it_is_done() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let source = only(&world.submit(sourced(task("a", "digits"), 0)));
    world.restart();
    world.connect_with("w", 2, 1, &[source.seat], &[]);
    let teacher = only(&world.finish("w", 2, &source));
    world.restart();
    world.connect_with("w", 1, 1, &[teacher.seat], &[]);
    assert_eq!(world.stage("a", StageKind::Source).phase, StagePhase::Done);
    let student = only(&world.finish("w", 1, &teacher));
    assert_eq!(student.backbone, result(&source).weights);
    assert_eq!(student.parents, [result(&teacher)]);
}

#[test]
fn a_source_leaves_weights_and_is_no_teacher() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let source = only(&world.submit(sourced(task("a", "digits"), 0)));
    let mut bare = result(&source);
    bare.weights = None;
    world.finish_with("w", 1, source.seat, bare);
    let reason = |world: &World| world.stage("a", StageKind::Source).reason;
    assert!(
        reason(&world).ends_with("reported source as done without leaving its weights"),
        "{}",
        reason(&world)
    );
    let again = only(&world.pass(crate::world::seconds(1)));
    let held_out = match result(&again).outcome {
        StageOutcome::Source { held_out } => held_out,
        other => panic!("{other:?}"),
    };
    let teacher = StageResult {
        outcome: StageOutcome::Teacher { held_out },
        ..result(&again)
    };
    world.finish_with("w", 1, again.seat, teacher);
    assert!(
        reason(&world).ends_with("reported a teacher where the result of source was expected"),
        "{}",
        reason(&world)
    );
}
