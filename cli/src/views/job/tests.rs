use clap::ValueEnum as _;

use super::*;
use crate::output::Sheet;
use crate::views::fixtures::{job, stage};

#[test]
fn jobs_as_a_table() {
    let failed = JobView {
        id: "01jdc1example".into(),
        task: "mnist5k".into(),
        state: JobState::Failed,
        reason: "teacher: 3 images cannot be read".into(),
        model_version: None,
        finished: None,
        seconds: None,
        stages_run: 1,
        ..job()
    };
    let text = table(
        &[job(), failed],
        &Sheet {
            wide: true,
            ..Sheet::default()
        },
    );
    assert_eq!(
        text,
        "\
ID             TASK     USER   STATE      MODEL     STAGES RUN  SUBMITTED              TOOK  REASON
01jdc0example  digits   alice  succeeded  digits@1           7  2025-11-23 06:14:42Z  6m 4s
01jdc1example  mnist5k  alice  failed     -                  1  2025-11-23 06:14:42Z      -  teacher: 3 images cannot be read
"
    );
}

#[test]
fn a_job_in_full() {
    let progress = Progress {
        phase: "training".into(),
        epoch: 1,
        epochs: 6,
        ..Progress::default()
    };
    let teacher = StageView {
        summary: "held-out 97.75 %".into(),
        attempt: 1,
        workers: vec!["one".into()],
        world_size: 1,
        seconds: Some(61.0),
        ..stage("teacher", StageState::Done)
    };
    let student = StageView {
        attempt: 2,
        workers: ["two", "two", "one"].map(str::to_owned).to_vec(),
        world_size: 3,
        progress: Some(progress),
        ..stage("student", StageState::Running)
    };
    let waiting = StageView {
        reason: "waits for student".into(),
        ..stage("select", StageState::Waiting)
    };
    let text = JobView {
        stages: vec![teacher, student, waiting],
        ..job()
    }
    .describe(&Sheet::default());
    assert!(
        text.starts_with(
            "\
job:         01jdc0example
task:        digits
user:        alice
priority:    5
state:       succeeded
model:       digits@1
"
        ),
        "{text}"
    );
    assert!(
        text.ends_with(
            "\
STAGE    STATE    ATTEMPT  RANKS  WORKERS       TOOK  DETAIL
teacher  done           1      1  one          1m 1s  held-out 97.75 %
student  running        2      3  two x2, one      -  training, epoch 1/6
select   waiting        0      -                   -  waits for student
"
        ),
        "{text}"
    );
}

#[test]
fn the_keys_of_json_are_those_documented() {
    let json = serde_json::to_value(JobView {
        stages: vec![stage("teacher", StageState::Queued)],
        ..job()
    });
    let json = json.expect("a view is JSON");
    assert_eq!(
        json,
        serde_json::json!({
            "id": "01jdc0example", "task": "digits", "state": "succeeded", "reason": "",
            "submitted": "2025-11-23T06:14:42Z", "finished": "2025-11-23T06:20:45.500Z", "seconds": 363.5,
            "model_version": 1, "stages_run": 7,
            "user": "alice", "priority": 5, "failure_class": null, "retry_of": null,
            "stages": [{
                "key": stage("teacher", StageState::Queued).key, "kind": "teacher", "state": "queued", "reason": "",
                "attempt": 0, "workers": [], "world_size": 0, "checkpoint_epoch": null,
                "progress": null, "summary": "", "seconds": null, "reused": false,
            }],
        })
    );
    assert!(
        serde_json::to_value(job()).expect("JSON").get("stages").is_none(),
        "listings have no stages"
    );
}

#[test]
fn a_failure_has_its_class_and_a_retry_names_its_job() {
    let text = JobView {
        state: JobState::Failed,
        reason: "teacher: 3 images cannot be read".into(),
        failure_class: Some("input".into()),
        retry_of: Some("digits-abc".into()),
        model_version: None,
        ..job()
    }
    .describe(&Sheet::default());
    let part = "\
priority:    5
retry of:    digits-abc
state:       failed
reason:      teacher: 3 images cannot be read
failure:     input
model:       -
";
    assert!(text.contains(part), "{text}");
}

#[test]
fn a_message_becomes_a_view() {
    let message = v1::Job {
        id: "a".into(),
        task: "digits".into(),
        state: v1::JobState::Running.into(),
        submitted_ms: 1_000,
        stages: vec![v1::Stage {
            state: 99,
            seconds: 3.0,
            ..v1::Stage::default()
        }],
        ..v1::Job::default()
    };
    let view = JobView::from(message);
    assert_eq!(
        (view.state, view.model_version, view.finished, view.seconds),
        (JobState::Running, None, None, None)
    );
    assert_eq!(
        (view.stages[0].state, view.stages[0].seconds),
        (StageState::Unknown, None)
    );

    let finished = v1::Job {
        submitted_ms: 1_000,
        finished_ms: 3_500,
        model_version: 2,
        user: "alice".into(),
        priority: -3,
        retry_of: "b".into(),
        ..v1::Job::default()
    };
    let view = JobView::from(finished);
    assert_eq!((view.seconds, view.model_version), (Some(2.5), Some(2)));
    assert_eq!((view.user.as_str(), view.priority), ("alice", -3));
    assert_eq!((view.failure_class, view.retry_of), (None, Some("b".into())));
    for state in JobState::value_variants() {
        assert_eq!(
            JobState::from(v1::JobState::from(*state)),
            *state,
            "there and back"
        );
    }
}
