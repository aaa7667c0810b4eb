//! Worker sessions.

use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;
use nettailor_proto::convert::session::{FromAgent, FromCoordinator};
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1;

use crate::agent::Agent;
use crate::site::{Site, next};

#[tokio::test]
async fn a_second_session_of_a_name_replaces_the_first_and_keeps_its_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    site.submit("digits").await;
    let mut first = Agent::connect(&site, "w1", vec![]).await;
    let order = first.order().await;
    let mut second = Agent::connect(&site, "w1", vec![order.seat]).await;
    let error = first.hear().await.unwrap_err();
    assert_eq!(error.code, Code::SessionReplaced);
    assert!(error.message.contains("newer session"), "{error}");
    second.finish(&order).await;
    assert_eq!(second.order().await.spec.kind().to_string(), "student");
    site.stop().await;
}

#[tokio::test]
async fn work_of_a_worker_whose_stream_broke_goes_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let job = site.submit("digits").await;
    let mut first = Agent::connect(&site, "w1", vec![]).await;
    let order = first.order().await;
    let mut second = Agent::connect(&site, "w2", vec![]).await;
    drop(first);
    let again = second.order().await;
    assert_eq!(
        (again.seat.attempt.stage, again.seat.attempt.number),
        (order.seat.attempt.stage, 2)
    );
    assert_eq!(site.job(&job.id).await.stages[0].workers, ["w2"]);
    site.stop().await;
}

#[tokio::test]
async fn a_session_begins_with_hello() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let heartbeat = tokio_stream::iter([v1::AgentMessage::from(FromAgent::Heartbeat)]);
    let error = Error::from(
        site.workers()
            .session(heartbeat)
            .await
            .expect_err("must be refused"),
    );
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.message.contains("Hello"), "{error}");
    site.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_not_ready_gets_no_work() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let job = site.submit("digits").await;
    let mut broken = Agent::greet(&site, "w1", vec![]).await;
    assert!(site.job(&job.id).await.reason.ends_with("no worker is connected"));
    // The first thing it said after Hello was not that.
    broken.say(FromAgent::Heartbeat).await;
    let error = broken.hear().await.unwrap_err();
    assert!(error.message.contains("after Hello comes Ready"), "{error}");
    assert_eq!(site.job(&job.id).await.stages[0].attempt, 0);
    let mut agent = Agent::connect(&site, "w1", vec![]).await;
    assert_eq!(agent.order().await.seat.attempt.number, 1);
    site.stop().await;
}

#[tokio::test]
async fn a_result_counts_once_the_artifact_store_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let job = site.submit("digits").await;
    let mut agent = Agent::connect(&site, "w1", vec![]).await;
    let order = agent.order().await;
    let result = Some(Box::new(agent.result(&order).await));
    let request = v1::LogsRequest {
        id: job.id.clone(),
        stage: String::new(),
        follow: true,
    };
    let mut log = site.jobs().logs(request).await.unwrap().into_inner();
    let (blobs, away) = (folder.path().join("artifacts/blobs"), folder.path().join("away"));
    std::fs::rename(&blobs, &away).unwrap();
    std::fs::write(&blobs, "no folder").unwrap();
    agent
        .say(FromAgent::Finished {
            seat: order.seat,
            result,
        })
        .await;
    let line = next(&mut log).await.unwrap().unwrap().line;
    assert!(line.starts_with("the result cannot be checked"), "{line}");
    std::fs::remove_file(&blobs).unwrap();
    std::fs::rename(&away, &blobs).unwrap();
    assert_eq!(
        agent.hear().await.unwrap(),
        Some(FromCoordinator::Acknowledged(order.seat))
    );
    assert_eq!(agent.order().await.spec.kind().to_string(), "student");
    site.stop().await;
}

#[tokio::test]
async fn a_report_that_cannot_be_read_is_a_failure_and_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let job = site.submit("digits").await;
    let mut agent = Agent::connect(&site, "w1", vec![]).await;
    let order = agent.order().await;
    let report = v1::SeatFinished {
        seat: Some(order.seat.into()),
        result_json: b"{}".to_vec(),
    };
    agent
        .send(v1::AgentMessage {
            message: Some(v1::agent_message::Message::Finished(report)),
        })
        .await;
    assert_eq!(
        agent.hear().await.unwrap(),
        Some(FromCoordinator::Acknowledged(order.seat))
    );
    let reason = site.job(&job.id).await.stages.remove(0).reason;
    assert!(
        reason.starts_with("retry 2 of 3") && reason.contains("result_json"),
        "{reason}"
    );
    site.stop().await;
}

#[tokio::test]
async fn weights_that_nobody_can_fetch_do_not_count_as_a_result() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let job = site.submit("digits").await;
    let mut agent = Agent::connect(&site, "w1", vec![]).await;
    let order = agent.order().await;
    let mut result = agent.result(&order).await;
    result.weights = Some(Artifact {
        digest: Digest::of(b"elsewhere"),
        bytes: 9,
    });
    agent
        .say(FromAgent::Finished {
            seat: order.seat,
            result: Some(Box::new(result)),
        })
        .await;
    assert_eq!(
        agent.hear().await.unwrap(),
        Some(FromCoordinator::Acknowledged(order.seat))
    );
    let teacher = site.job(&job.id).await.stages.remove(0);
    assert!(
        teacher.reason.contains("not in the artifact store"),
        "{teacher:?}"
    );
    // It is tried again.
    let again = agent.order().await;
    assert_eq!(
        (again.seat.attempt.stage, again.seat.attempt.number),
        (order.seat.attempt.stage, 2)
    );
    site.stop().await;
}
