//! Two agents that work on a stage together.

use nettailor_domain::ids::{Digest, Seat};
use nettailor_domain::session::Order;
use nettailor_domain::stage::{Artifact, Checkpoint};
use nettailor_domain::trainer::{Failure, FailureClass, Progress};
use nettailor_proto::convert::session::{FromAgent, FromCoordinator};
use nettailor_proto::v1::{self, Job, JobState, StageState};

use crate::agent::Agent;
use crate::site::{Site, next};

/// A site with the workers `w1` and `w2`, and a job for both of them.
struct Pair {
    site: Site,
    job: Job,
    agents: [Agent; 2],
    /// Of ranks 0 and 1 of its teacher, by agent.
    orders: [Order; 2],
}

impl Pair {
    async fn start(folder: &tempfile::TempDir) -> Self {
        let site = Site::start(folder.path()).await;
        let mut submission = site.submission(&["digits"]).await;
        submission.tasks_yaml = submission.tasks_yaml.replace("k: [2]}", "k: [2]}, workers: 2");
        let answer = site.jobs().submit(submission).await.unwrap();
        let job = answer.into_inner().jobs.remove(0);
        let mut first = Agent::connect(&site, "w1", vec![]).await;
        let mut second = Agent::connect(&site, "w2", vec![]).await;
        let orders = [first.order().await, second.order().await];
        assert_eq!([orders[0].seat.rank, orders[1].seat.rank], [0, 1]);
        assert_eq!([orders[0].world_size, orders[1].world_size], [2, 2]);
        Self {
            site,
            job,
            agents: [first, second],
            orders,
        }
    }

    async fn teacher(&self) -> v1::Stage {
        self.site.job(&self.job.id).await.stages.remove(0)
    }

    /// Rank `rank` of the teacher ends with a failure of this class, and is acknowledged.
    async fn fail(&mut self, rank: usize, class: FailureClass) {
        let seat = self.orders[rank].seat;
        let message = "it broke".into();
        let failure = Failure { class, message };
        self.agents[rank].say(FromAgent::Failed { seat, failure }).await;
        let heard = self.agents[rank].hear().await.unwrap();
        assert_eq!(heard, Some(FromCoordinator::Acknowledged(seat)));
    }

    /// The agent hears that a rank of its is to stop; why.
    async fn stop(&mut self, agent: usize) -> String {
        match self.agents[agent].hear().await.unwrap() {
            Some(FromCoordinator::Stop { seat, reason }) if seat == self.orders[agent].seat => reason,
            other => panic!("a stop was expected: {other:?}"),
        }
    }
}

fn meeting(seat: Seat, address: &str) -> FromAgent {
    let address = address.parse().unwrap();
    FromAgent::Meeting { seat, address }
}

#[tokio::test]
async fn a_gang_meets_and_is_done_with_its_last_rank() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(&folder).await;
    let [zero, one] = pair.orders.clone();
    let teacher = pair.teacher().await;
    assert_eq!(
        (teacher.workers, teacher.world_size),
        (vec!["w1".into(), "w2".into()], 2)
    );

    pair.agents[0].say(meeting(zero.seat, "10.0.0.1:4711")).await;
    let meet = FromCoordinator::Meet {
        seat: one.seat,
        address: "10.0.0.1:4711".parse().unwrap(),
    };
    assert_eq!(pair.agents[1].hear().await.unwrap(), Some(meet));

    // Both report how far they are; rank 0 is shown.
    let mut watched = pair.site.watch(&pair.job.id).await;
    next(&mut watched).await.unwrap();
    for (rank, order) in [(1, &one), (0, &zero)] {
        let progress = Progress {
            phase: format!("as rank {rank} says"),
            ..Progress::default()
        };
        let seat = order.seat;
        pair.agents[rank]
            .say(FromAgent::Progress { seat, progress })
            .await;
    }
    let event = next(&mut watched).await.unwrap().unwrap().event.unwrap();
    let v1::job_event::Event::Progress(seen) = event else {
        panic!("{event:?}")
    };
    assert_eq!(seen.progress.unwrap().phase, "as rank 0 says");

    pair.agents[0].finish(&zero).await;
    assert_eq!(pair.teacher().await.state(), StageState::Running);
    pair.agents[1].finish(&one).await;
    assert_eq!(pair.teacher().await.state(), StageState::Done);
    // The student is theirs, too, and so on to the end; the choice is measured by one of them.
    for _ in 0..2 {
        for agent in &mut pair.agents {
            let order = agent.order().await;
            agent.finish(&order).await;
        }
    }
    let [first, second] = &mut pair.agents;
    let select = tokio::select! {
        order = take(first) => order,
        order = take(second) => order,
    };
    assert_eq!(select.world_size, 1);
    assert_eq!(pair.site.job(&pair.job.id).await.state(), JobState::Succeeded);
    pair.site.stop().await;
}

/// Does what comes next.
async fn take(agent: &mut Agent) -> Order {
    let order = agent.order().await;
    agent.finish(&order).await;
    order
}

#[tokio::test]
async fn a_rank_of_an_older_attempt_calls_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(&folder).await;
    let [old, _] = pair.orders.clone();
    pair.fail(1, FailureClass::Resources).await;
    let reason = pair.stop(0).await;
    assert_eq!(reason, "rank 1 on w2 ended: it broke");
    pair.agents[0].say(meeting(old.seat, "10.0.0.1:1")).await;
    pair.fail(0, FailureClass::Lost).await;
    let new = [pair.agents[0].order().await, pair.agents[1].order().await];
    assert_eq!(new[0].seat.attempt.number, 2);
    pair.agents[0].say(meeting(old.seat, "10.0.0.1:1")).await;
    pair.agents[0].say(meeting(new[0].seat, "10.0.0.1:2")).await;
    let meet = FromCoordinator::Meet {
        seat: new[1].seat,
        address: "10.0.0.1:2".parse().unwrap(),
    };
    assert_eq!(
        pair.agents[1].hear().await.unwrap(),
        Some(meet),
        "and no other before"
    );
    pair.site.stop().await;
}

#[tokio::test]
async fn a_lost_rank_stops_the_other_and_the_next_attempt_goes_on_from_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(&folder).await;
    let [zero, _] = pair.orders.clone();
    let artifact = pair
        .site
        .artifacts
        .put_bytes("state after 3 epochs")
        .await
        .unwrap();
    let checkpoint = Checkpoint {
        artifact,
        epoch: 3,
        step: 300,
    };
    let seat = zero.seat;
    let mut watched = pair.site.watch(&pair.job.id).await;
    next(&mut watched).await.unwrap();
    pair.agents[0]
        .say(FromAgent::Checkpointed { seat, checkpoint })
        .await;
    next(&mut watched).await.unwrap();
    assert_eq!(pair.teacher().await.checkpoint_epoch, Some(3));

    // The agent was started again and knows nothing.
    pair.agents[1] = Agent::connect(&pair.site, "w2", vec![]).await;
    assert_eq!(
        pair.stop(0).await,
        "rank 1 on w2 ended: w2 does not know the attempt"
    );
    let reason = pair.teacher().await.reason;
    assert!(reason.ends_with("; resumes after epoch 3"), "{reason}");
    pair.fail(0, FailureClass::Lost).await;
    let again = pair.agents[0].order().await;
    assert_eq!((again.seat.attempt.number, again.checkpoint), (2, Some(artifact)));
    assert_eq!(pair.agents[1].order().await.checkpoint, Some(artifact));
    pair.site.stop().await;
}

#[tokio::test]
async fn a_checkpoint_that_nobody_can_fetch_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::start(&folder).await;
    let request = v1::LogsRequest {
        id: pair.job.id.clone(),
        stage: String::new(),
        follow: true,
    };
    let mut log = pair.site.jobs().logs(request).await.unwrap().into_inner();
    let checkpoint = Checkpoint {
        artifact: Artifact {
            digest: Digest::of(b"elsewhere"),
            bytes: 9,
        },
        epoch: 3,
        step: 300,
    };
    let seat = pair.orders[0].seat;
    pair.agents[0]
        .say(FromAgent::Checkpointed { seat, checkpoint })
        .await;
    let line = next(&mut log).await.unwrap().unwrap();
    assert!(line.line.contains("not in the artifact store"), "{line:?}");
    assert_eq!((line.rank, line.worker.as_str()), (0, "w1"));
    assert_eq!(pair.teacher().await.checkpoint_epoch, None);
    pair.site.stop().await;
}

#[tokio::test]
async fn an_address_that_is_none_ends_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(&folder).await;
    let meeting = v1::Meeting {
        seat: Some(pair.orders[0].seat.into()),
        address: "the first node".into(),
    };
    pair.agents[0]
        .send(v1::AgentMessage {
            message: Some(v1::agent_message::Message::Meeting(meeting)),
        })
        .await;
    let error = pair.agents[0].hear().await.unwrap_err();
    assert!(error.message.contains("field `address`"), "{error}");
    pair.site.stop().await;
}
