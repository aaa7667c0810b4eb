//! What people do to jobs, workers and users, and what they are told.

use nettailor_domain::explain::{Binding, Explanation};
use nettailor_proto::status::{self, Code};
use nettailor_proto::v1::users_client::UsersClient;
use nettailor_proto::v1::{self, HistoryEvent, JobState, WorkerState};
use tonic::Streaming;

use crate::agent::Agent;
use crate::site::{PATIENCE, Site};

fn code<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> Code {
    status::Error::from(answer.expect_err("refused")).code
}

fn explained(answer: v1::Explanation) -> Explanation {
    serde_json::from_slice(&answer.json).unwrap()
}

async fn all(mut events: Streaming<HistoryEvent>) -> Vec<HistoryEvent> {
    let read = async {
        let mut all = Vec::new();
        while let Some(event) = events.message().await.unwrap() {
            all.push(event);
        }
        all
    };
    tokio::time::timeout(PATIENCE, read).await.expect("it ends")
}

#[tokio::test]
async fn a_job_is_paused_changed_resumed_and_done_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let mut submission = site.submission(&["digits"]).await;
    (submission.user, submission.priority) = ("alice".into(), Some(7));
    let job = site
        .jobs()
        .submit(submission)
        .await
        .unwrap()
        .into_inner()
        .jobs
        .remove(0);
    assert_eq!((job.user.as_str(), job.priority), ("alice", 7));
    let id = job.id.clone();
    let followed = v1::EventsRequest {
        id: id.clone(),
        follow: true,
    };
    let events = site.jobs().events(followed).await.unwrap().into_inner();

    let pause = v1::PauseJobRequest {
        id: id.clone(),
        reason: "lunch".into(),
        minutes: 5,
    };
    let paused = site.jobs().pause(pause).await.unwrap().into_inner();
    assert_eq!(paused.state(), JobState::Paused);
    let ask = v1::ExplainJobRequest {
        id: id.clone(),
        stage: String::new(),
    };
    let why = explained(site.jobs().explain(ask.clone()).await.unwrap().into_inner());
    assert!(matches!(why.binding, Binding::Paused { .. }), "{why:?}");
    assert!(why.reason.contains("lunch"), "{why:?}");
    assert_eq!(
        why.events.last().map(|last| last.reason.contains("lunch")),
        Some(true)
    );
    let resume = v1::ResumeJobRequest { id: id.clone() };
    site.jobs().resume(resume).await.unwrap();
    let update = v1::UpdateJobRequest {
        id: id.clone(),
        priority: Some(-3),
        deadline_minutes: None,
    };
    assert_eq!(
        site.jobs()
            .update(update.clone())
            .await
            .unwrap()
            .into_inner()
            .priority,
        -3
    );
    let too_high = v1::UpdateJobRequest {
        priority: Some(101),
        ..update.clone()
    };
    assert_eq!(code(site.jobs().update(too_high).await), Code::InvalidArgument);

    let retry = |from: &str, failed_only| v1::RetryRequest {
        ids: vec![id.clone()],
        failed_only,
        from_stage: from.into(),
    };
    assert_eq!(code(site.jobs().retry(retry("", false)).await), Code::JobLive);
    let mut agent = Agent::connect(&site, "w1", vec![]).await;
    agent.work(4).await;
    assert_eq!(code(site.jobs().update(update).await), Code::JobOver);
    let none = site.jobs().retry(retry("", true)).await.unwrap().into_inner();
    assert_eq!(none.jobs, [], "it did not fail");
    assert_eq!(
        code(site.jobs().retry(retry("source", false)).await),
        Code::InvalidArgument
    );
    let again = site
        .jobs()
        .retry(retry("candidate(2)", false))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (again.jobs[0].retry_of.as_str(), again.jobs[0].user.as_str()),
        (id.as_str(), "alice")
    );
    agent.work(2).await;
    let again = site.job(&again.jobs[0].id).await;
    assert_eq!((again.state(), again.stages_run), (JobState::Succeeded, 2));

    let told = all(events).await;
    let own: Vec<&str> = told
        .iter()
        .filter(|event| event.stage.is_empty())
        .map(|event| event.what.as_str())
        .collect();
    assert_eq!(own, ["submitted", "paused", "resumed", "changed", "over"]);
    let teacher: Vec<&str> = told
        .iter()
        .filter(|event| event.stage == "teacher")
        .map(|event| event.what.as_str())
        .collect();
    assert_eq!(teacher, ["ready", "ready", "started", "done"]);
    assert!(told.iter().all(|event| !event.reason.is_empty()), "{told:?}");
    let later = v1::EventsRequest {
        id: id.clone(),
        follow: false,
    };
    let kept = all(site.jobs().events(later.clone()).await.unwrap().into_inner()).await;
    assert_eq!(kept, told);
    site.stop().await;
    let site = Site::start(folder.path()).await;
    let kept = all(site.jobs().events(later).await.unwrap().into_inner()).await;
    assert_eq!(kept, told, "they are kept");
    site.stop().await;
}

#[tokio::test]
async fn a_worker_is_taken_out_of_use_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let mut agent = Agent::connect(&site, "w1", vec![]).await;
    let cordon = v1::CordonRequest {
        worker: "w1".into(),
        reason: "new memory".into(),
    };
    let worker = site.workers().cordon(cordon.clone()).await.unwrap().into_inner();
    assert_eq!(worker.state(), WorkerState::Cordoned);
    let job = site.submit("digits").await;
    let ask = v1::ExplainJobRequest {
        id: job.id.clone(),
        stage: "teacher".into(),
    };
    let why = explained(site.jobs().explain(ask).await.unwrap().into_inner());
    assert_eq!(why.binding, Binding::NoWorker { unavailable: 1 });
    assert!(why.action.contains("uncordon"), "{why:?}");
    let ask = |worker: &str| v1::ExplainWorkerRequest {
        worker: worker.into(),
    };
    let why = explained(site.workers().explain(ask("w1")).await.unwrap().into_inner());
    assert!(
        why.reason.contains("new memory") && why.events.len() == 1,
        "{why:?}"
    );
    assert_eq!(
        code(site.workers().explain(ask("w2")).await),
        Code::WorkerNotFound
    );
    let back = v1::UncordonRequest { worker: "w1".into() };
    site.workers().uncordon(back).await.unwrap();
    agent.work(4).await;
    assert_eq!(site.job(&job.id).await.state(), JobState::Succeeded);
    site.workers().drain(cordon).await.unwrap();
    let unknown = v1::ExplainJobRequest {
        id: job.id,
        stage: "search".into(),
    };
    assert_eq!(code(site.jobs().explain(unknown).await), Code::InvalidArgument);
    site.stop().await;
}

#[tokio::test]
async fn users_have_weights_limits_and_guarantees() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let mut users = UsersClient::new(site.channel.clone());
    let set = v1::SetUserRequest {
        name: "alice".into(),
        weight: Some(3),
        limit: Some(8),
        guarantee: None,
    };
    let user = users.set(set).await.unwrap().into_inner();
    assert_eq!((user.weight, user.limit, user.guarantee), (3, 8, 0));
    let unlimited = v1::SetUserRequest {
        name: "alice".into(),
        limit: Some(0),
        guarantee: Some(2),
        ..Default::default()
    };
    let user = users.set(unlimited).await.unwrap().into_inner();
    assert_eq!((user.weight, user.limit, user.guarantee), (3, 0, 2));
    let none = v1::SetUserRequest {
        name: "alice".into(),
        weight: Some(0),
        ..Default::default()
    };
    assert_eq!(code(users.set(none).await), Code::InvalidArgument);
    site.stop().await;
    let site = Site::start(folder.path()).await;
    let mut users = UsersClient::new(site.channel.clone());
    let listed = users
        .list(v1::ListUsersRequest {})
        .await
        .unwrap()
        .into_inner()
        .users;
    assert_eq!(listed, [user]);
    site.stop().await;
}
