//! Jobs from submission to registry, watched and logged.

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::Digest;
use nettailor_domain::model::{BackboneRecord, ModelRecord};
use nettailor_domain::trainer::{Failure, FailureClass, Progress};
use nettailor_proto::convert::session::{FromAgent, FromCoordinator};
use nettailor_proto::v1::job_event::Event;
use nettailor_proto::v1::{self, JobState, StageState, WorkerState};

use crate::agent::Agent;
use crate::site::{Site, from_source, next, tasks, to_the_end};

/// teacher, student, candidate(2), select
const STAGES: usize = 4;

#[tokio::test]
async fn a_job_goes_from_submission_to_registry_and_is_not_done_twice() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let job = site.submit("digits").await;
    assert_eq!(
        (job.state(), job.stages.len()),
        (JobState::Queued, STAGES),
        "{job:?}"
    );
    assert!(job.id.starts_with("digits-") && !job.reason.is_empty(), "{job:?}");

    let mut agent = Agent::connect(&site, "w1", vec![]).await;
    agent.work(STAGES).await;
    let done = site.job(&job.id).await;
    assert_eq!(
        (done.state(), done.model_version, done.stages_run),
        (JobState::Succeeded, 1, 4),
        "{done:?}"
    );
    assert_eq!(done.stages[0].state(), StageState::Done);
    assert_eq!(done.stages[0].summary, "held-out 98.00 %");
    assert_eq!(
        done.stages[3].summary,
        "candidate(2): test 97.40 %, teacher 97.50 %"
    );

    let found = site
        .registry()
        .search(v1::SearchRequest::default())
        .await
        .unwrap()
        .into_inner()
        .models;
    let model = ModelRecord::try_from(found[0].clone()).unwrap();
    assert_eq!(
        (model.lineage.job.as_str(), model.accuracy.test.correct),
        (job.id.as_str(), 974)
    );
    let newest = v1::GetModelRequest {
        task: "digits".into(),
        version: 0,
    };
    assert_eq!(site.registry().get(newest).await.unwrap().into_inner(), found[0]);
    let strict = v1::SearchRequest {
        min_accuracy: Some(0.99),
        ..Default::default()
    };
    assert!(
        site.registry()
            .search(strict)
            .await
            .unwrap()
            .into_inner()
            .models
            .is_empty()
    );

    let again = site.submit("digits").await;
    assert_eq!(
        (again.state(), again.stages_run, again.model_version),
        (JobState::Succeeded, 0, 1),
        "{again:?}"
    );
    site.stop().await;
}

#[tokio::test]
async fn a_job_with_a_source_and_a_search_becomes_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let images = site.artifacts.put_bytes("data").await.unwrap();
    let source = site.artifacts.put_bytes("source").await.unwrap();
    let submission = v1::SubmitRequest {
        tasks_yaml: tasks(&["digits"])
            .replace("lite0", "{arch: lite0, source: {data: {path: s}}}")
            .replace("k: [2]", "k: [2], search: halving"),
        inputs: [("digits".to_owned(), from_source(source, images))].into(),
        ..Default::default()
    };
    let job = site
        .jobs()
        .submit(submission)
        .await
        .unwrap()
        .into_inner()
        .jobs
        .remove(0);
    let job = site.job(&job.id).await;
    let kinds: Vec<&str> = job.stages.iter().map(|stage| stage.kind.as_str()).collect();
    assert_eq!(kinds, ["source", "teacher", "student", "search", "select"]);

    let mut agent = Agent::connect(&site, "w1", vec![]).await;
    let first = agent.order().await;
    assert_eq!((first.backbone, first.data), (None, source));
    agent.finish(&first).await;
    agent.work(4).await;
    let done = site.job(&job.id).await;
    assert_eq!(done.state(), JobState::Succeeded, "{done:?}");
    assert_eq!(done.stages[0].summary, "held-out 90.00 %");
    assert!(
        done.stages[3]
            .summary
            .starts_with("candidate(2) of 1: held-out 97.90 %"),
        "{}",
        done.stages[3].summary
    );
    let newest = v1::GetModelRequest {
        task: "digits".into(),
        version: 0,
    };
    let model = site.registry().get(newest).await.unwrap().into_inner();
    let model = ModelRecord::try_from(model).unwrap();
    assert_eq!(model.lineage.backbone, Digest::of(b"source weights"));
    assert_eq!((model.lineage.stages.len(), model.frontier.len()), (5, 1));
    assert_eq!(model.latency.network.batch_1_ms, 2.0);
    site.stop().await;
}

#[tokio::test]
async fn a_watcher_sees_every_change_and_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let job = site.submit("digits").await;
    let mut watched = site.watch(&job.id).await;
    let Some(Event::Job(first)) = next(&mut watched).await.unwrap().unwrap().event else {
        panic!("the job is first")
    };
    assert_eq!(first, job);

    let mut agent = Agent::connect(&site, "w1", vec![]).await;
    let order = agent.order().await;
    let progress = Progress {
        phase: "training".into(),
        step: 7,
        steps: 9,
        ..Default::default()
    };
    agent
        .say(FromAgent::Progress {
            seat: order.seat,
            progress: progress.clone(),
        })
        .await;
    let seen = loop {
        match next(&mut watched).await.unwrap().unwrap().event.unwrap() {
            Event::Progress(seen) => break seen,
            Event::Job(job) => assert_eq!(job.stages[0].state(), StageState::Running),
        }
    };
    assert_eq!(
        (seen.kind.as_str(), seen.attempt, seen.progress.unwrap().step),
        ("teacher", 1, 7)
    );
    assert_eq!(site.job(&job.id).await.stages[0].progress, Some(progress.into()));

    agent.finish(&order).await;
    agent.work(STAGES - 1).await;
    let (events, last) = to_the_end(&mut watched).await;
    assert!(events.len() >= STAGES, "{events:?}");
    assert_eq!(last.state(), JobState::Succeeded);
    // A final job is told once.
    let (events, _) = to_the_end(&mut site.watch(&job.id).await).await;
    assert_eq!(events.len(), 1);
    site.stop().await;
}

#[tokio::test]
async fn logs_are_kept_and_followed_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let job = site.submit("digits").await;
    let request = |follow, stage: &str| v1::LogsRequest {
        id: job.id.clone(),
        stage: stage.into(),
        follow,
    };
    let mut followed = site.jobs().logs(request(true, "")).await.unwrap().into_inner();
    let mut agent = Agent::connect(&site, "w1", vec![]).await;
    for number in 0..STAGES as u64 {
        let order = agent.order().await;
        let lines = vec![format!("line {number}"), "more".into()];
        agent
            .say(FromAgent::Log {
                seat: order.seat,
                time_ms: 100 + number,
                lines,
            })
            .await;
        agent.finish(&order).await;
    }
    let mut lines = Vec::new();
    while let Some(line) = next(&mut followed).await.unwrap() {
        lines.push((line.stage, line.attempt, line.rank, line.worker, line.line));
    }
    assert_eq!(lines.len(), 2 * STAGES, "{lines:?}");
    assert_eq!(lines[0], ("teacher".into(), 1, 0, "w1".into(), "line 0".into()));

    let mut kept = site
        .jobs()
        .logs(request(false, "student"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(next(&mut kept).await.unwrap().unwrap().line, "line 1");
    assert_eq!(next(&mut kept).await.unwrap().unwrap().line, "more");
    assert_eq!(next(&mut kept).await.unwrap(), None);
    site.stop().await;
}

#[tokio::test]
async fn a_cancelled_job_stops_its_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let job = site.submit("digits").await;
    let mut agent = Agent::connect(&site, "w1", vec![]).await;
    let order = agent.order().await;
    let request = v1::CancelJobRequest {
        id: job.id.clone(),
        reason: "not needed".into(),
    };
    let cancelled = site.jobs().cancel(request.clone()).await.unwrap().into_inner();
    assert_eq!(cancelled.state(), JobState::Cancelled);
    assert!(cancelled.reason.contains("not needed"), "{cancelled:?}");
    let heard = agent.hear().await.unwrap();
    assert!(
        matches!(heard, Some(FromCoordinator::Stop { seat, .. }) if seat == order.seat),
        "{heard:?}"
    );
    let failure = Failure {
        class: FailureClass::Lost,
        message: "stopped".into(),
    };
    agent
        .say(FromAgent::Failed {
            seat: order.seat,
            failure,
        })
        .await;
    assert_eq!(
        agent.hear().await.unwrap(),
        Some(FromCoordinator::Acknowledged(order.seat))
    );
    // A final job is left as it is.
    assert_eq!(
        site.jobs().cancel(request).await.unwrap().into_inner(),
        site.job(&job.id).await
    );
    site.stop().await;
}

#[tokio::test]
async fn jobs_are_listed_in_pages_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let submission = site.submission(&["a", "b", "c"]).await;
    let submitted = site.jobs().submit(submission).await.unwrap().into_inner().jobs;
    let names = |jobs: &[v1::Job]| jobs.iter().map(|job| job.task.clone()).collect::<Vec<_>>();
    assert_eq!(names(&submitted), ["a", "b", "c"]);

    let request = v1::ListJobsRequest {
        page_size: 2,
        ..Default::default()
    };
    let first = site.jobs().list(request.clone()).await.unwrap().into_inner();
    assert_eq!(names(&first.jobs), ["c", "b"]);
    assert!(first.jobs[0].stages.is_empty());
    let request = v1::ListJobsRequest {
        page_token: first.next_page_token,
        ..request
    };
    let second = site.jobs().list(request).await.unwrap().into_inner();
    assert_eq!(
        (names(&second.jobs), second.next_page_token),
        (vec!["a".to_owned()], String::new())
    );

    let cancel = v1::CancelJobRequest {
        id: submitted[1].id.clone(),
        reason: String::new(),
    };
    site.jobs().cancel(cancel).await.unwrap();
    let cancelled = v1::ListJobsRequest {
        states: vec![JobState::Cancelled.into()],
        ..Default::default()
    };
    assert_eq!(
        names(&site.jobs().list(cancelled).await.unwrap().into_inner().jobs),
        ["b"]
    );
    let of_task = v1::ListJobsRequest {
        task: "c".into(),
        ..Default::default()
    };
    assert_eq!(
        names(&site.jobs().list(of_task).await.unwrap().into_inner().jobs),
        ["c"]
    );
    site.stop().await;
}

#[tokio::test]
async fn workers_and_backbones_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let _agent = Agent::connect(&site, "w1", vec![]).await;
    let workers = site
        .workers()
        .list(v1::ListWorkersRequest {})
        .await
        .unwrap()
        .into_inner()
        .workers;
    assert_eq!(
        (workers[0].name.as_str(), workers[0].state()),
        ("w1", WorkerState::Ready)
    );

    let weights = site.artifacts.put_bytes("weights").await.unwrap();
    let request = v1::RegisterBackboneRequest {
        arch: "lite0".into(),
        weights: Some(weights.into()),
        source: "lite0.pth".into(),
    };
    let kept = site
        .registry()
        .register_backbone(request)
        .await
        .unwrap()
        .into_inner();
    let all = site
        .registry()
        .list_backbones(v1::ListBackbonesRequest {})
        .await
        .unwrap()
        .into_inner()
        .backbones;
    assert_eq!(all, std::slice::from_ref(&kept));
    let record = BackboneRecord::try_from(kept).unwrap();
    assert_eq!((record.arch, record.weights), (BackboneName::Lite0, weights));
    site.stop().await;
}
