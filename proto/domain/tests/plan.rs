//! The stages of a job: what they are, what they need, and what their keys depend on.

use std::collections::{BTreeMap, BTreeSet};

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{Digest, StageKey};
use nettailor_domain::stage::{Blueprint, PlannedStage, Rerun, StageKind, StageWork, plan};
use nettailor_domain::task::{
    BackboneInput, DataInput, Precision, Search, SourceSettings, TaskInputs, TaskSpec,
};

use StageKind::{Candidate, Select, Source, Student, Teacher};

const ARCH: BackboneName = BackboneName::Resnet18;

fn task(name: &str) -> TaskSpec {
    serde_json::from_value(serde_json::json!({
        "name": name, "data": {"path": "d"}, "candidates": {"k": [2, 4]},
    }))
    .expect("complete")
}

fn data(name: &str) -> DataInput {
    DataInput {
        archive: Digest::of(name.as_bytes()),
        classes: vec!["a".into(), "b".into()],
    }
}

fn weights() -> TaskInputs {
    TaskInputs {
        backbone: BackboneInput::Weights(Digest::of(b"weights")),
        data: data("task"),
    }
}

fn settings() -> SourceSettings {
    serde_json::from_value(serde_json::json!({"data": {"path": "s"}})).expect("complete")
}

fn sourced(settings: SourceSettings) -> TaskInputs {
    TaskInputs {
        backbone: BackboneInput::Source {
            settings,
            data: data("source"),
        },
        data: data("task"),
    }
}

fn kinds(stages: &[PlannedStage]) -> Vec<StageKind> {
    stages.iter().map(|stage| stage.spec.kind()).collect()
}

/// The kinds of every stage's parents, which must have come before it.
fn parents(stages: &[PlannedStage]) -> Vec<Vec<StageKind>> {
    let mut known: BTreeMap<StageKey, StageKind> = BTreeMap::new();
    stages
        .iter()
        .map(|stage| {
            let parents = stage.parents.iter().map(|key| known[key]).collect();
            known.insert(stage.key, stage.spec.kind());
            parents
        })
        .collect()
}

fn keys(stages: &[PlannedStage]) -> BTreeSet<StageKey> {
    stages.iter().map(|stage| stage.key).collect()
}

/// The stages of `changed` that `before` has not.
fn again(before: &[PlannedStage], changed: &[PlannedStage]) -> Vec<StageKind> {
    let done = keys(before);
    changed
        .iter()
        .filter(|stage| !done.contains(&stage.key))
        .map(|stage| stage.spec.kind())
        .collect()
}

#[test]
fn parents_come_first_and_in_the_order_of_the_graph() {
    let stages = plan(ARCH, &task("digits"), &weights());
    assert_eq!(
        kinds(&stages),
        [Teacher, Student, Candidate(2), Candidate(4), Select]
    );
    assert_eq!(
        parents(&stages),
        [
            vec![],
            vec![Teacher],
            vec![Teacher, Student],
            vec![Teacher, Student],
            vec![Teacher, Candidate(2), Candidate(4)],
        ]
    );
    assert!(
        stages
            .iter()
            .all(|stage| stage.spec.backbone == Some(Digest::of(b"weights")))
    );
}

#[test]
fn a_source_is_the_first_parent_of_all_that_reads_its_weights() {
    let stages = plan(ARCH, &task("digits"), &sourced(settings()));
    assert_eq!(
        kinds(&stages),
        [Source, Teacher, Student, Candidate(2), Candidate(4), Select]
    );
    assert_eq!(
        parents(&stages),
        [
            vec![],
            vec![Source],
            vec![Source, Teacher],
            vec![Source, Teacher, Student],
            vec![Source, Teacher, Student],
            vec![Source, Teacher, Candidate(2), Candidate(4)],
        ]
    );
    assert!(stages.iter().all(|stage| stage.spec.backbone.is_none()));
    let archives: Vec<Digest> = stages.iter().map(|stage| stage.spec.data).collect();
    assert_eq!(archives[0], Digest::of(b"source"));
    assert!(archives[1..].iter().all(|data| *data == Digest::of(b"task")));
}

#[test]
fn a_search_stands_where_the_candidates_stood() {
    let mut halving = task("digits");
    halving.candidates.search = Search::Halving;
    halving.tolerance_points = 1.0;
    for (inputs, before) in [(weights(), 0), (sourced(settings()), 1)] {
        let stages = plan(ARCH, &halving, &inputs);
        assert_eq!(
            kinds(&stages)[before..],
            [Teacher, Student, StageKind::Search, Select]
        );
        let parents = parents(&stages);
        assert_eq!(parents[before + 2][before..], [Teacher, Student]);
        assert_eq!(parents[before + 3][before..], [Teacher, StageKind::Search]);
        let StageWork::Search {
            ladder, tolerance, ..
        } = &stages[before + 2].spec.work
        else {
            panic!("a search")
        };
        assert_eq!((&ladder[..], *tolerance), (&[2, 4][..], 0.01));
    }
}

#[test]
fn adding_a_k_to_an_exhaustive_ladder_adds_a_candidate_and_a_choice() {
    let before = plan(ARCH, &task("digits"), &weights());
    let mut more = task("digits");
    more.candidates.k = Some(vec![6, 4, 2]);
    let changed = plan(ARCH, &more, &weights());
    assert_eq!(again(&before, &changed), [Candidate(6), Select]);
    assert_eq!(kinds(&changed)[2..5], [Candidate(2), Candidate(4), Candidate(6)]);
}

#[test]
fn another_search_runs_again_from_there() {
    let before = plan(ARCH, &task("digits"), &weights());
    let mut halving = task("digits");
    halving.candidates.search = Search::Halving;
    let search = plan(ARCH, &halving, &weights());
    assert_eq!(again(&before, &search), [StageKind::Search, Select]);
    // A search depends on its whole ladder, and on what it may lose.
    let mut longer = halving.clone();
    longer.candidates.k = Some(vec![2, 4, 6]);
    assert_eq!(
        again(&search, &plan(ARCH, &longer, &weights())),
        [StageKind::Search, Select]
    );
    halving.tolerance_points = 2.0;
    assert_eq!(
        again(&search, &plan(ARCH, &halving, &weights())),
        [StageKind::Search, Select]
    );
}

#[test]
fn tasks_of_one_source_share_its_stage_and_no_other() {
    let digits = plan(ARCH, &task("digits"), &sourced(settings()));
    let mut other = task("letters");
    (other.seed, other.data.image_size) = (7, 64);
    let letters = plan(ARCH, &other, &sourced(settings()));
    let shared: Vec<StageKey> = keys(&digits).intersection(&keys(&letters)).copied().collect();
    assert_eq!(shared, [digits[0].key]);
    // Where the images lie is no part of what they are.
    let mut moved = settings();
    moved.data.path = "elsewhere".into();
    assert_eq!(keys(&plan(ARCH, &task("digits"), &sourced(moved))), keys(&digits));
}

#[test]
fn a_changed_source_changes_every_key() {
    let before = plan(ARCH, &task("digits"), &sourced(settings()));
    let mut changes = vec![settings(), settings(), settings(), settings()];
    changes[0].training.epochs += 1;
    changes[1].seed = 1;
    changes[2].data.image_size = 64;
    changes[3].sync_bn = true;
    for changed in changes {
        let after = plan(ARCH, &task("digits"), &sourced(changed));
        assert_eq!(again(&before, &after), kinds(&after));
    }
    let mut inputs = sourced(settings());
    if let BackboneInput::Source { data: images, .. } = &mut inputs.backbone {
        *images = data("more");
    }
    let after = plan(ARCH, &task("digits"), &inputs);
    assert_eq!(again(&before, &after), kinds(&after));
    assert_eq!(
        again(&before, &plan(ARCH, &task("digits"), &weights())),
        [Teacher, Student, Candidate(2), Candidate(4), Select]
    );
}

#[test]
fn by_how_many_workers_and_with_what_resources_is_no_part_of_a_key() {
    let before = plan(ARCH, &task("digits"), &sourced(settings()));
    let mut wide = task("digits");
    wide.workers = "2..4".parse().expect("a range");
    wide.resources.checkpoint_seconds = 0;
    assert_eq!(keys(&plan(ARCH, &wide, &sourced(settings()))), keys(&before));
}

#[test]
fn statistics_over_all_workers_are_part_of_the_stages_of_a_task_that_train() {
    let before = plan(ARCH, &task("digits"), &sourced(settings()));
    let mut synchronous = task("digits");
    synchronous.sync_bn = true;
    let after = plan(ARCH, &synchronous, &sourced(settings()));
    assert_eq!(again(&before, &after), kinds(&after)[1..], "all but the source");
    let with: Vec<StageKind> = after
        .iter()
        .filter(|stage| stage.spec.sync_bn)
        .map(|stage| stage.spec.kind())
        .collect();
    assert_eq!(with, [Teacher, Student, Candidate(2), Candidate(4)]);
    // Keys from before there was a choice stay.
    let spec = serde_json::to_value(&before[1].spec).expect("plain data");
    assert_eq!(spec.get("sync_bn"), None);
}

#[test]
fn the_precision_of_what_travels_is_part_of_the_stages_of_a_task_that_train() {
    let before = plan(ARCH, &task("digits"), &sourced(settings()));
    let mut rounded = task("digits");
    rounded.wire = Precision::Bf16;
    let after = plan(ARCH, &rounded, &sourced(settings()));
    assert_eq!(again(&before, &after), kinds(&after)[1..], "all but the source");
    let with = after.iter().filter(|stage| stage.spec.wire == Precision::Bf16);
    let with: Vec<StageKind> = with.map(|stage| stage.spec.kind()).collect();
    assert_eq!(with, [Teacher, Student, Candidate(2), Candidate(4)]);
}

#[test]
fn a_key_is_the_digest_of_the_stage_as_json() {
    for stage in plan(ARCH, &task("digits"), &sourced(settings())) {
        let identity = serde_json::json!({ "method": nettailor_domain::METHOD_VERSION, "spec": stage.spec, "parents": stage.parents });
        assert_eq!(stage.key, StageKey(Digest::of(identity.to_string().as_bytes())));
    }
}

#[test]
fn a_rerun_renews_its_stage_and_what_follows_and_nothing_else() {
    let (task, inputs) = (task("digits"), weights());
    let before = plan(ARCH, &task, &inputs);
    let reruns = [Rerun {
        from: Candidate(4),
        number: 1,
    }];
    let blueprint = Blueprint {
        arch: ARCH,
        task: &task,
        inputs: &inputs,
        reruns: &reruns,
    };
    let after = blueprint.plan();
    assert_eq!(again(&before, &after), [Candidate(4), Select]);
    assert_eq!(after.iter().map(|stage| stage.spec.rerun).sum::<u32>(), 1);
}

#[test]
fn kinds_are_read_as_they_are_written() {
    for kind in [Source, Teacher, Student, Candidate(6), StageKind::Search, Select] {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    let error = "candidate".parse::<StageKind>().expect_err("no number");
    assert!(error.to_string().contains("candidate(6)"), "{error}");
}
