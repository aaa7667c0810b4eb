//! A job from its submission to its end.

use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::{Event, Submission};
use nettailor_scheduler::record::Record;
use nettailor_scheduler::testing::{infeasible, planned, result, task};
use nettailor_scheduler::view::{JobPhase, StagePhase};
use nettailor_scheduler::{FindError, Rejected};

use crate::world::{World, acknowledged, assigned, job, only, stopped, worker};

const ALL: [StageKind; 5] = [
    StageKind::Teacher,
    StageKind::Student,
    StageKind::Candidate(2),
    StageKind::Candidate(4),
    StageKind::Select,
];

#[test]
fn stages_run_in_order_and_the_model_is_published_with_the_jobs_end() {
    let mut world = World::new();
    world.submit(task("a", "digits"));
    assert_eq!(world.job("a").phase, JobPhase::Queued);
    assert_eq!(world.job("a").reason, "teacher waits: no worker is connected");
    assert_eq!(world.stage("a", StageKind::Student).reason, "waits for teacher");

    let effects = world.connect("w", 1, 1);
    let teacher = only(&effects);
    assert_eq!(teacher.description, "digits: teacher");
    assert!(teacher.parents.is_empty() && teacher.selection.is_none());
    assert_eq!(world.job("a").phase, JobPhase::Running);
    assert_eq!(world.job("a").reason, "teacher runs on w since 22:13:20 UTC");
    let student = only(&world.finish("w", 1, &teacher));
    assert_eq!(student.parents, [result(&teacher)]);
    let first = only(&world.finish("w", 1, &student));
    assert_eq!(first.spec.kind(), StageKind::Candidate(2));
    assert_eq!(first.parents, [result(&teacher), result(&student)]);
    assert_eq!(
        world.stage("a", StageKind::Candidate(4)).reason,
        "waits for a free slot: 1 of 1 busy"
    );
    assert_eq!(
        world.stage("a", StageKind::Select).reason,
        "waits for candidate(2), candidate(4)"
    );
    let second = only(&world.finish("w", 1, &first));
    let select = only(&world.finish("w", 1, &second));
    // Both qualify; k = 4 is leaner. Its results are what the trainer reads, after the teacher's.
    assert_eq!(
        select
            .selection
            .map(|selection| (selection.k, selection.qualified)),
        Some((4, true))
    );
    assert_eq!(select.parents, [result(&teacher), result(&second)]);

    let done = Event::SeatFinished {
        worker: worker("w"),
        session: 1,
        seat: select.seat,
        result: Some(Box::new(result(&select))),
    };
    let transition = world.scheduler.apply(done, world.now).expect("accepted");
    let kinds: Vec<_> = transition
        .records
        .iter()
        .filter(|record| !matches!(record, Record::Event(_)))
        .map(|record| matches!(record, Record::Model(_)))
        .collect();
    assert_eq!(
        kinds,
        [true, false, false],
        "model, stage and job are kept in one go"
    );
    assert!(transition.effects.contains(&Effect::Published {
        task: "digits".parse().expect("a name"),
        version: 1
    }));

    let view = world.job("a");
    assert_eq!(
        (view.phase, view.model_version, view.stages_run),
        (JobPhase::Succeeded, Some(1), 5)
    );
    assert_eq!(view.reason, "published as digits version 1");
    assert!(
        view.stages
            .iter()
            .all(|stage| stage.phase == StagePhase::Done && !stage.reason.is_empty())
    );
    let model = world.scheduler.models().next().expect("a model");
    assert_eq!(model.weights, result(&second).weights.expect("weights"));
    assert_eq!(model.teacher, result(&teacher).weights.expect("weights"));
    assert_eq!(model.lineage.training_seconds, 10);
    let lineage = [
        StageKind::Teacher,
        StageKind::Student,
        StageKind::Candidate(4),
        StageKind::Select,
    ];
    assert_eq!(model.lineage.stages, lineage.map(|kind| world.key("a", kind)));
}

#[test]
fn a_resubmission_runs_nothing_and_names_the_same_model() {
    let mut world = World::new();
    let start = world.connect("w", 1, 1);
    assert!(start.is_empty());
    let effects = world.submit(task("a", "digits"));
    assert_eq!(world.run(effects), ALL);
    let effects = world.submit(task("b", "digits"));
    assert_eq!(effects, [Effect::JobChanged(2)]);
    let view = world.job("b");
    assert_eq!(
        (view.phase, view.model_version, view.stages_run),
        (JobPhase::Succeeded, Some(1), 0)
    );
    assert_eq!(world.scheduler.models().count(), 1);
}

#[test]
fn another_task_with_the_same_content_gets_its_own_model_without_running() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let effects = world.submit(task("a", "digits"));
    world.run(effects);
    let effects = world.submit(task("b", "numbers"));
    assert!(assigned(&effects).is_empty());
    assert_eq!(world.job("b").model_version, Some(1));
    let names: Vec<_> = world
        .scheduler
        .models()
        .map(|model| model.task.to_string())
        .collect();
    assert_eq!(names, ["digits", "numbers"]);
}

#[test]
fn gamma1_changed_runs_again_from_the_student_only() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let effects = world.submit(task("a", "digits"));
    world.run(effects);
    let mut changed = task("b", "digits");
    changed.task.student.gamma1 = 0.7;
    let effects = world.submit(changed.clone());
    assert_eq!(world.run(effects), ALL[1..]);
    let view = world.job("b");
    assert_eq!(
        (view.model_version, view.stages_run),
        (Some(2), planned(&changed) - 1)
    );
}

#[test]
fn adding_one_k_runs_one_candidate_and_select() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let effects = world.submit(task("a", "digits"));
    world.run(effects);
    let mut more = task("b", "digits");
    more.task.candidates.k = Some(vec![2, 4, 6]);
    let effects = world.submit(more);
    assert_eq!(world.run(effects), [StageKind::Candidate(6), StageKind::Select]);
    assert_eq!(
        (world.job("b").model_version, world.job("b").stages_run),
        (Some(2), 2)
    );
}

#[test]
fn infeasible_candidates_count_as_done_and_without_any_other_the_job_fails() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    let student = only(&world.finish("w", 1, &teacher));
    let two = only(&world.finish("w", 1, &student));
    let four = only(&world.finish_with("w", 1, two.seat, infeasible(2)));
    let effects = world.finish_with("w", 1, four.seat, infeasible(4));
    assert!(assigned(&effects).is_empty());
    let view = world.job("a");
    assert_eq!(view.phase, JobPhase::Failed);
    assert!(
        view.reason
            .starts_with("select failed (input): no candidate leaves a network (k = 2: node 8"),
        "{view:?}"
    );

    // The same again fails at once; with a smaller k it goes through.
    assert!(assigned(&world.submit(task("b", "digits"))).is_empty());
    assert_eq!(world.job("b").phase, JobPhase::Failed);
    let mut smaller = task("c", "digits");
    smaller.task.candidates.k = Some(vec![0, 2, 4]);
    let effects = world.submit(smaller);
    assert_eq!(world.run(effects), [StageKind::Candidate(0), StageKind::Select]);
    assert_eq!(
        world.scheduler.models().next().map(|model| model.selection.k),
        Some(0)
    );
}

#[test]
fn a_cancelled_jobs_attempt_is_stopped_and_holds_its_slot_until_it_ended() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.submit({
        let mut other = task("b", "other");
        other.task.seed = 1;
        other
    });
    let effects = world.cancel("a");
    assert_eq!(stopped(&effects), [teacher.seat]);
    assert!(assigned(&effects).is_empty(), "the slot is still taken");
    assert_eq!(world.job("a").phase, JobPhase::Cancelled);
    assert_eq!(world.job("a").reason, "cancelled: enough");
    assert_eq!(world.worker("w").slots_used, 1);

    let effects = world.fail("w", 1, teacher.seat, FailureClass::Internal);
    assert_eq!(acknowledged(&effects), [teacher.seat]);
    assert_eq!(only(&effects).description, "other: teacher");
    assert_eq!(world.stage("a", StageKind::Teacher).phase, StagePhase::Idle);
    // A second report of the same end frees nothing more.
    assert!(assigned(&world.fail("w", 1, teacher.seat, FailureClass::Internal)).is_empty());
    assert_eq!(world.worker("w").slots_used, 1);
    assert_eq!(world.scheduler.counters().stale_reports, 1);

    let before = world.job("a");
    assert!(world.cancel("a").is_empty());
    assert_eq!(world.job("a"), before);
}

#[test]
fn a_stage_asked_for_anew_while_it_is_being_stopped_starts_over_uncounted() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.cancel("a");
    assert!(assigned(&world.submit(task("b", "digits"))).is_empty());
    assert_eq!(world.job("b").stages_run, 0);
    let again = only(&world.fail("w", 1, teacher.seat, FailureClass::Internal));
    assert_eq!(again.seat.attempt.number, 2);
    assert_eq!(world.job("b").stages_run, 1);
    assert_eq!(world.scheduler.counters().faults, 0);
}

#[test]
fn a_stop_without_an_end_is_sent_again() {
    let mut world = World::new();
    world.connect("w", 1, 1);
    let teacher = only(&world.submit(task("a", "digits")));
    world.cancel("a");
    let mut stops = 0;
    for _ in 0..20 {
        world.heartbeat("w", 1);
        stops += stopped(&world.pass(crate::world::seconds(3))).len();
    }
    assert_eq!(stops, 2, "every 30 s");
    world.fail("w", 1, teacher.seat, FailureClass::Internal);
    world.heartbeat("w", 1);
    assert!(stopped(&world.pass(crate::world::seconds(5))).is_empty());
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut world = World::new();
    world.submit(task("a", "digits"));
    let refused = |world: &mut World, submission: Submission| {
        let records = world.kept.len();
        let error = world
            .try_apply(Event::Submit(submission.into()))
            .expect_err("refused");
        assert_eq!(world.kept.len(), records);
        error
    };
    assert_eq!(
        refused(&mut world, task("a", "digits")),
        Rejected::DuplicateJob(job("a"))
    );
    let mut deep = task("b", "digits");
    deep.task.candidates.k = Some(vec![2, 9]);
    let error = refused(&mut world, deep);
    assert_eq!(
        error.to_string(),
        "task `digits`, candidates.k: 9 main blocks cannot be removed from resnet18, expected 0 to 8"
    );
    let mut none = task("b", "digits");
    none.task.candidates.k = Some(vec![]);
    assert!(matches!(refused(&mut world, none), Rejected::NoCandidates(_)));
    let cancel = Event::Cancel {
        job: job("nobody"),
        reason: String::new(),
    };
    assert_eq!(
        world.try_apply(cancel).expect_err("refused"),
        Rejected::UnknownJob(job("nobody"))
    );
    assert_eq!(world.scheduler.jobs().count(), 1);
}

#[test]
fn jobs_are_found_by_the_start_of_their_id_and_listed_newest_first() {
    let mut world = World::new();
    for id in ["ab", "abc", "b1", "b2"] {
        world.submit(task(id, "digits"));
    }
    let listed: Vec<_> = world.scheduler.jobs().map(|view| view.id.to_string()).collect();
    assert_eq!(listed, ["b2", "b1", "abc", "ab"]);
    assert_eq!(world.scheduler.find_job("ab"), Ok(&job("ab")), "an exact id wins");
    assert_eq!(world.scheduler.find_job("abc"), Ok(&job("abc")));
    assert_eq!(world.scheduler.find_job("a"), Err(ambiguous("a", "ab", "abc")));
    assert_eq!(world.scheduler.find_job("b"), Err(ambiguous("b", "b1", "b2")));
    for nobody in ["c", "", "abcd", "A B"] {
        assert_eq!(
            world.scheduler.find_job(nobody),
            Err(FindError::NotFound(nobody.into()))
        );
    }
}

fn ambiguous(prefix: &str, first: &str, second: &str) -> FindError {
    FindError::Ambiguous {
        prefix: prefix.into(),
        first: job(first),
        second: job(second),
    }
}
