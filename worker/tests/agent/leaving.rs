//! Draining.

use std::time::Duration;

use nettailor_domain::trainer::FailureClass;
use nettailor_proto::convert::session::{FromAgent, FromCoordinator};
use nettailor_worker::{Agent, Config};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use crate::coordinator::{Coordinator, soon};
use crate::stage::Stage;

#[tokio::test]
async fn a_draining_agent_finishes_what_runs_and_starts_nothing() {
    let stage = Stage::with_trainer(r#"say begun; read go < "$here/go"; finish"#);
    let go = stage.pipe("go");
    let mut coordinator = Coordinator::start().await;
    let agent = Agent::new(stage.config(coordinator.url())).expect("a good configuration");
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(agent.run(shutdown.clone()));
    let mut session = coordinator.welcome(&stage.url()).await;
    let order = stage.order(1).await;
    session.assign(order.clone()).await;
    session.log("begun").await;

    shutdown.cancel();
    session
        .until("draining", |said| {
            matches!(said, FromAgent::Draining { .. }).then_some(())
        })
        .await;
    let late = stage.order(2).await;
    session.assign(late.clone()).await;
    let refusal = session.report(late.seat).await;
    assert!(
        matches!(&refusal, FromAgent::Failed { failure, .. } if failure.class == FailureClass::Lost),
        "{refusal:?}"
    );
    session.say(FromCoordinator::Acknowledged(late.seat)).await;
    drop(session);
    let mut session = coordinator.welcome(&stage.url()).await;
    assert!(
        session.hello.offer.draining,
        "nor is it asked to after a reconnect"
    );

    tokio::fs::write(go, "\n").await.expect("the trainer reads");
    let report = session.report(order.seat).await;
    assert!(matches!(report, FromAgent::Finished { .. }), "{report:?}");
    assert!(!running.is_finished(), "it waits for the acknowledgement");
    session.say(FromCoordinator::Acknowledged(order.seat)).await;
    soon("the agent's end", running)
        .await
        .expect("no panic")
        .expect("a good end");
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_given_back() {
    let stage = Stage::with_trainer(r#"say begun; read never < "$here/never""#);
    stage.pipe("never");
    let mut coordinator = Coordinator::start().await;
    let config = Config {
        drain: Duration::from_millis(20),
        ..stage.config(coordinator.url())
    };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(
        Agent::new(config)
            .expect("a good configuration")
            .run(shutdown.clone()),
    );
    let mut session = coordinator.welcome(&stage.url()).await;
    let order = stage.order(1).await;
    session.assign(order.clone()).await;
    session.log("begun").await;

    shutdown.cancel();
    let report = session.report(order.seat).await;
    assert!(
        matches!(&report, FromAgent::Failed { failure, .. } if failure.class == FailureClass::Lost),
        "{report:?}"
    );
    session.say(FromCoordinator::Acknowledged(order.seat)).await;
    soon("the agent's end", running)
        .await
        .expect("no panic")
        .expect("a good end");
}

#[tokio::test]
async fn an_agent_without_a_coordinator_leaves_too() {
    let stage = Stage::with_trainer("finish");
    let shutdown = CancellationToken::new();
    let agent = Agent::new(stage.config("http://127.0.0.1:1".to_owned())).expect("a good configuration");
    let running = tokio::spawn(agent.run(shutdown.clone()));
    shutdown.cancel();
    soon("the agent's end", running)
        .await
        .expect("no panic")
        .expect("a good end");
}

#[tokio::test]
async fn a_dropped_agent_takes_its_trainers_along() {
    // The trainer holds a pipe open, whose end is its own.
    let stage = Stage::with_trainer(r#"exec 3> "$here/life"; say begun; read never < "$here/never""#);
    stage.pipe("never");
    let life = tokio::net::unix::pipe::OpenOptions::new().open_receiver(stage.pipe("life"));
    let mut life = life.expect("the pipe's reading end");
    let mut coordinator = Coordinator::start().await;
    let agent = Agent::new(stage.config(coordinator.url())).expect("a good configuration");
    let running = tokio::spawn(agent.run(CancellationToken::new()));
    let mut session = coordinator.welcome(&stage.url()).await;
    session.assign(stage.order(1).await).await;
    session.log("begun").await;
    running.abort();
    soon("the trainer's end", life.read_to_end(&mut Vec::new()))
        .await
        .expect("the pipe's end");
}
